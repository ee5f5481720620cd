import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import './shared/ui/mantine.css';
import './shared/ui/tokens.css';
import './shared/ui/base.css';
import { App, makeQueryClient } from './app/App';
import { makeRouter } from './app/router';
import { browserTransport, LiveClient } from './shared/live/client';

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <App router={makeRouter()} client={makeQueryClient()} live={new LiveClient(browserTransport())} />
  </StrictMode>,
);
