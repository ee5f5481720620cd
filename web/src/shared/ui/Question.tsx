import { Button } from '@mantine/core';
import classes from './Question.module.css';

interface QuestionProps {
  /** What is asked about, for screen readers. */
  label: string;
  /** What it means, and that it cannot be undone. */
  text: string;
  yes: string;
  onYes: () => void;
  onNo: () => void;
}

/** Asks before something that cannot be undone. */
export function Question({ label, text, yes, onYes, onNo }: QuestionProps) {
  return (
    <div className={classes.question} role="group" aria-label={label}>
      <span className={classes.text}>{text}</span>
      <Button variant="filled" autoFocus onClick={onYes}>
        {yes}
      </Button>
      <Button onClick={onNo}>Not now</Button>
    </div>
  );
}
