import type { FieldChange } from '../../shared/api/types';
import { fieldName, fieldValue } from '../../shared/format/definition';
import { Quiet } from '../../shared/ui/Sections';
import classes from './Changes.module.css';

/** What differs between two definitions, field by field. */
export function Changes({ changes, none = 'Nothing differs.' }: { changes: readonly FieldChange[]; none?: string }) {
  if (changes.length === 0) return <Quiet>{none}</Quiet>;
  return (
    <dl className={classes.changes}>
      {changes.map((c) => (
        <div key={c.field}>
          <dt>{fieldName(c.field)}</dt>
          <dd>
            <del>
              <bdi>{fieldValue(c.field, c.from)}</bdi>
            </del>
            <span aria-hidden="true"> → </span>
            <ins>
              <bdi>{fieldValue(c.field, c.to)}</bdi>
            </ins>
          </dd>
        </div>
      ))}
    </dl>
  );
}
