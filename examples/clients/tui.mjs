// A day at the terminal client.

import { run } from './program.mjs';

await run('tui', 'httpLink', async ({ api, does, sees, hears }) => {
  const { sessionId } = await does('asks without choosing a session', () =>
    api.message.add.mutate({ sessionId: null, provider: 'openai', model: 'gpt-5-mini', content: 'The login page is blank' }),
  );
  await does('names the session that this made', () =>
    api.session.updateTitle.mutate({ sessionId, title: 'Fix the login' }),
  );
  await does('switches its rules', () =>
    api.session.updateRules.mutate({ sessionId, enabledRuleIds: ['concise', 'tests-first'] }),
  );
  const release = await sees((session) => session.title === 'Plan the release');
  await does("renames the graphical client's session", () =>
    api.session.updateTitle.mutate({ sessionId: release.id, title: 'Plan the release, with Ana' }),
  );
  await sees((session) => session.id === sessionId && session.model === 'gpt-5');
  hears(await does('reads an answer as it comes', () => answer(api, { sessionId, content: 'What was it?' })));
  await does('takes the planner', () => api.agents.select.mutate({ agentId: 'planner' }));
});

/** The text of a streamed answer. */
function answer(api, input) {
  return new Promise((resolve, reject) => {
    let text = '';
    api.message.streamResponse.subscribe(input, {
      onData: (item) => {
        if (item.type === 'text-delta') text += item.text;
      },
      onError: reject,
      onComplete: () => resolve(text),
    });
  });
}
