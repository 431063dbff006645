import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * @typedef {object} ProviderConfig
 * @property {string} [apiKey]
 * @property {string} [baseUrl]
 * @property {string} [organization]
 * @property {string} [defaultModel]
 *
 * @typedef {object} Settings
 * @property {Record<string, ProviderConfig>} providers
 * @property {string | null} defaultProvider
 * @property {string | null} defaultModel
 * @property {Record<string, boolean>} rules   rule id → switched on
 * @property {string} agent                    the selected agent
 */

/** @type {Settings} */
const DEFAULTS = {
  providers: {},
  defaultProvider: null,
  defaultModel: null,
  rules: { concise: true },
  agent: 'coder',
};

/** The providers whose keys the user interface knows how to hide. */
const KNOWN_PROVIDERS = ['anthropic', 'openai', 'google', 'openrouter'];

/** @typedef {ReturnType<typeof openSettings>} SettingsFile */

/** @param {string} directory */
export function openSettings(directory) {
  const path = join(directory, 'settings.json');
  let written = 0;
  return {
    /** @returns {Promise<Settings>} */
    async load() {
      try {
        return { ...DEFAULTS, ...JSON.parse(await readFile(path, 'utf8')) };
      } catch (error) {
        if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return structuredClone(DEFAULTS);
        throw error;
      }
    },

    /** @param {Settings} settings */
    async save(settings) {
      const draft = `${path}.${process.pid}.${++written}`;
      await writeFile(draft, JSON.stringify(settings, null, 2) + '\n');
      await rename(draft, path);
    },
  };
}

/** @param {Record<string, ProviderConfig>} providers */
export function maskKeys(providers) {
  return Object.fromEntries(
    Object.entries(providers).map(([id, config]) => [
      id,
      config.apiKey && KNOWN_PROVIDERS.includes(id) ? { ...config, apiKey: mask(config.apiKey) } : config,
    ]),
  );
}

/** @param {string} key */
function mask(key) {
  return `${key.slice(0, 7)}***`;
}
