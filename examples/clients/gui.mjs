// A day at the graphical client. It meets the terminal client's user on the way: both wait for what the other does.

import { run } from './program.mjs';

await run('gui', 'httpBatchLink', async ({ api, does, sees }) => {
  await does('adds the provider openai', () =>
    api.config.updateProviderConfig.mutate({ providerId: 'openai', config: { apiKey: 'sk-example-1234567890', defaultModel: 'gpt-5' } }),
  );
  await does('chooses gpt-5', () => api.config.selectModel.mutate({ providerId: 'openai', model: 'gpt-5' }));
  const release = await does('starts a session', () => api.session.create.mutate({ provider: 'openai', model: 'gpt-5' }));
  const scratch = await does('starts another', () => api.session.create.mutate({ provider: 'openai', model: 'gpt-5-mini' }));
  await does(
    'names both at once, in one batch',
    () => api.session.updateTitle.mutate({ sessionId: release.id, title: 'Plan the release' }),
    () => api.session.updateTitle.mutate({ sessionId: scratch.id, title: 'Scratch' }),
    () => api.rules.toggle.mutate({ ruleId: 'tests-first', enabled: true }),
  );
  const login = await sees((session) => session.title === 'Fix the login');
  await does("gives the terminal's session a better model", () =>
    api.session.updateModel.mutate({ sessionId: login.id, model: 'gpt-5' }),
  );
  await sees((session) => session.title === 'Plan the release, with Ana');
  await does('deletes the scratch session', () => api.session.delete.mutate({ sessionId: scratch.id }));
});
