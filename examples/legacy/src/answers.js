/** The answer of a model that costs nothing: it comes in words, and is always the same for the same question. */
export function scriptedAnswer(question) {
  return `You said: ${question} That is noted.`.split(/(?<= )/);
}

/** @param {string} question */
export function titleFor(question) {
  return question.split(/\s+/).filter(Boolean).slice(0, 5).join(' ') || 'New chat';
}
