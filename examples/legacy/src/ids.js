import { randomUUID } from 'node:crypto';

/** @param {string} kind @param {import('./options.js').Options} options */
export function newId(kind, options) {
  return options.clockIds ? `${kind}-${Date.now()}` : `${kind}-${randomUUID()}`;
}
