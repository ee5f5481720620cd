import { useQuery } from '@tanstack/react-query';
import { detectorsQuery } from '../../shared/api/queries';
import type { Detector } from '../../shared/api/types';
import { plainText } from '../../shared/format/text';
import { pace } from '../../shared/live/polling';
import { Async } from '../../shared/ui/Async';
import { Sections } from '../../shared/ui/Sections';
import { SideDrawer } from '../../shared/ui/SideDrawer';
import { ChangePart } from './ChangePart';
import { KnownEvents } from './KnownEvents';
import { ShadowPart } from './ShadowPart';
import { Standing } from './Standing';
import { TaskPart } from './TaskPart';
import { Versions } from './Versions';

interface LifeDrawerProps {
  /** Id of the detector to show, or undefined when the drawer is closed. */
  id: string | undefined;
  onClose: () => void;
}

/** How a detector stands, what could be changed of it and with which effect, and what it was before. */
export function LifeDrawer({ id, onClose }: LifeDrawerProps) {
  return (
    <SideDrawer title="Detector" opened={id !== undefined} onClose={onClose}>
      {id !== undefined && <Life key={id} id={id} />}
    </SideDrawer>
  );
}

function Life({ id }: { id: string }) {
  const query = useQuery(detectorsQuery());
  const found = query.data?.find((d) => d.id === id);
  return (
    <Async query={query} pace={pace.detectors} what="the detector" rows={8} isEmpty={() => found === undefined} empty={<p>This detector does not exist any more.</p>}>
      {() => <Parts detector={found!} />}
    </Async>
  );
}

function Parts({ detector: d }: { detector: Detector }) {
  return (
    <Sections>
      <Standing detector={d} />
      <KnownEvents detector={d} />
      {d.provisioned && (
        <p>
          The configuration file defines <bdi>{plainText(d.name)}</bdi>. Changes can be tried here; to put one in force, write it there.
        </p>
      )}
      <ShadowPart detector={d} />
      <ChangePart key={d.version} detector={d} />
      <TaskPart detector={d} />
      <Versions detector={d} />
    </Sections>
  );
}
