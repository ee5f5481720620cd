-- The detector that a task works on, so that its tasks can be listed; '' for none.
-- Tasks of before have none: they are found in the list of all until they are pruned.
ALTER TABLE tasks ADD COLUMN detector_id TEXT NOT NULL DEFAULT '';
CREATE INDEX tasks_detector ON tasks (detector_id, created_at, id);
