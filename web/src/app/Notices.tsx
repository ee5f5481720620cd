import { CloseButton } from '@mantine/core';
import { Icon } from '../shared/ui/icons';
import { dismiss, useNotices } from '../shared/ui/notices';
import classes from './Notices.module.css';

/** What went wrong after whoever ordered it had moved on. */
export function Notices() {
  const notices = useNotices();
  return (
    <div className={classes.notices}>
      {notices.map((n) => (
        <p key={n.id} className={classes.notice} role="alert">
          <Icon name="alert" />
          <span>{n.text}</span>
          <CloseButton size="xs" aria-label="Dismiss this notice" onClick={() => dismiss(n.id)} />
        </p>
      ))}
    </div>
  );
}
