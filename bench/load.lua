-- What wrk sends, by its arguments: the mode (query | rename) and among how many sessions it chooses, whose keys are
-- those of bench/log.py. The figures go to the file BENCH_FIGURES.
local mode
local sessions
local counter = 0
local thread_number = 0

function setup(thread)
  thread:set("number", thread_number)
  thread_number = thread_number + 1
end

function init(args)
  mode = args[1]
  sessions = tonumber(args[2])
  math.randomseed(number + 7)
end

local function session()
  return string.format("%08x-7b1c-4f4e-9d53-0123456789ab", math.random(0, sessions - 1) * 2654435761 % 4294967296)
end

function request()
  if mode == "query" then
    return wrk.format("GET", "/trpc/session.getById?input=%7B%22sessionId%22%3A%22" .. session() .. "%22%7D")
  end
  counter = counter + 1
  local body = string.format('{"sessionId":"%s","title":"The title after change %d"}', session(), counter)
  return wrk.format("POST", "/trpc/session.updateTitle", { ["content-type"] = "application/json" }, body)
end

function done(summary, latency, requests)
  local file = io.open(os.getenv("BENCH_FIGURES"), "w")
  local errors = summary.errors
  file:write(string.format('{"rate":%f,"p50":%f,"p99":%f,"failed":%d}',
    summary.requests / (summary.duration / 1000000), latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
  file:close()
end
