import '@testing-library/jest-dom/vitest';
import { cleanup, configure } from '@testing-library/react';
import { transferableAbortController } from 'node:util';
import { afterEach, vi } from 'vitest';
import { setSignedOut } from '../shared/api/signedOut';

// The whole document in each failure hides what failed.
configure({ asyncUtilTimeout: 5000, getElementError: (message) => new Error(message?.split('\n\n')[0] ?? 'not found') });

// What browsers have and the document of the tests has not.

// Requests are Node's, and take no signals but Node's.
const controller = transferableAbortController();
globalThis.AbortController = controller.constructor as typeof AbortController;
globalThis.AbortSignal = controller.signal.constructor as typeof AbortSignal;

globalThis.matchMedia ??= ((query: string) => ({
  media: query,
  matches: false,
  onchange: null,
  addEventListener: () => undefined,
  removeEventListener: () => undefined,
  addListener: () => undefined,
  removeListener: () => undefined,
  dispatchEvent: () => false,
})) as typeof matchMedia;

globalThis.ResizeObserver ??= class {
  observe() {}
  unobserve() {}
  disconnect() {}
};

globalThis.Path2D ??= class {
  moveTo() {}
  lineTo() {}
  rect() {}
  arc() {}
  closePath() {}
} as unknown as typeof Path2D;

globalThis.scrollTo = () => undefined;
Element.prototype.scrollIntoView ??= () => undefined;

// Everything is 800 wide, so that a chart has room for its plot.
Object.defineProperty(HTMLElement.prototype, 'clientWidth', { get: () => 800 });

// A canvas that takes every drawing and shows none.
HTMLCanvasElement.prototype.getContext = function () {
  return new Proxy({} as Record<PropertyKey, unknown>, {
    get: (held, name) => (name in held ? held[name] : name === 'measureText' ? () => ({ width: 10 }) : () => undefined),
    set: (held, name, value) => {
      held[name] = value;
      return true;
    },
  });
} as unknown as HTMLCanvasElement['getContext'];

afterEach(() => {
  cleanup();
  localStorage.clear();
  setSignedOut(false);
  vi.useRealTimers();
});
