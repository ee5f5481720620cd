import { Fragment } from 'react';
import { plainText } from '../../shared/format/text';
import { variableMark, wordsOf } from './template';
import classes from './Template.module.css';

/** The template of a pattern: its words, and a mark where the lines differ. That of lines without a word says so. */
export function Template({ template }: { template: string }) {
  if (template === '') return <i>an empty line</i>;
  const words = wordsOf(template);
  return (
    <bdi className={classes.template}>
      {words.map((part, i) => (
        <Fragment key={i}>
          {i > 0 && <span className={classes.variable}>{variableMark}</span>}
          {plainText(part)}
        </Fragment>
      ))}
    </bdi>
  );
}
