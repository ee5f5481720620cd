package api

import (
	"context"
	"net/http"
	"time"

	"aiops/internal/model"
)

// ModelVersion is one trained generation of a detector's models.
type ModelVersion struct {
	DetectorID      string     `json:"detector_id"`
	Version         int64      `json:"version"`
	DetectorVersion int64      `json:"detector_version" doc:"The definition it was trained for"`
	State           string     `json:"state" enum:"active,shadow,retired"`
	TrainedFrom     *time.Time `json:"trained_from,omitempty"`
	TrainedTo       *time.Time `json:"trained_to,omitempty"`
	Series          int        `json:"series"`
	SizeBytes       int64      `json:"size_bytes"`
	CreatedAt       time.Time  `json:"created_at"`
	Reason          string     `json:"reason" doc:"Why it was made, such as created, trained or rolled back"`
}

func modelVersionOf(v model.ModelVersion) ModelVersion {
	return ModelVersion{DetectorID: v.DetectorID, Version: v.Version, DetectorVersion: v.DetectorVersion, State: string(v.State),
		TrainedFrom: timeOf(v.TrainedFrom), TrainedTo: timeOf(v.TrainedTo), Series: v.Series, SizeBytes: v.SizeBytes,
		CreatedAt: v.CreatedAt.UTC(), Reason: v.Reason}
}

func (s *server) registerModels() {
	base := detectorsPath + "/{id}"
	change := codes(writeCodes, CodeNotFound, CodeDetectorNotFound, CodeDetectorConflict)
	register(s, operation{id: "list-models", method: http.MethodGet, path: base + "/models", tag: tagModels, summary: "List the model versions of a detector",
		description: "Newest first. One version is active; shadow versions score beside it without alerting.",
		codes:       codes(readCodes, CodeDetectorNotFound)}, s.listModels)
	register(s, operation{id: "promote-model", method: http.MethodPost, path: base + "/models/{version}/promote", tag: tagModels, summary: "Make a model version the active one",
		codes: change}, s.promoteModel)
	register(s, operation{id: "rollback-model", method: http.MethodPost, path: base + "/models/rollback", tag: tagModels, summary: "Return to the model version before the active one",
		codes: change}, s.rollbackModel)
}

// ModelVersionList is every model version of a detector.
type ModelVersionList struct {
	Items      []ModelVersion `json:"items"`
	NextCursor string         `json:"next_cursor" doc:"Always empty: a detector has few versions"`
}

type listModelsOutput struct {
	Tagged
	Body ModelVersionList
}

func (s *server) listModels(ctx context.Context, in *DetectorPath) (*listModelsOutput, error) {
	if _, err := s.opts.Detectors.Detector(ctx, in.ID); err != nil {
		return nil, err
	}
	found, err := s.opts.Models.ModelVersions(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &listModelsOutput{Body: ModelVersionList{Items: make([]ModelVersion, len(found))}}
	for i, v := range found {
		out.Body.Items[i] = modelVersionOf(v)
	}
	return out, nil
}

type modelAnswer struct{ Body ModelVersion }

type promoteInput struct {
	DetectorPath
	Version int64 `path:"version" minimum:"1" doc:"Version of the model" example:"3"`
}

func (s *server) promoteModel(ctx context.Context, in *promoteInput) (*modelAnswer, error) {
	return s.changeModel(ctx, in.ID, func() (model.ModelVersion, error) {
		return s.opts.Models.PromoteModel(ctx, in.ID, in.Version)
	})
}

func (s *server) rollbackModel(ctx context.Context, in *DetectorPath) (*modelAnswer, error) {
	return s.changeModel(ctx, in.ID, func() (model.ModelVersion, error) {
		return s.opts.Models.RollbackModel(ctx, in.ID)
	})
}

func (s *server) changeModel(ctx context.Context, id string, change func() (model.ModelVersion, error)) (*modelAnswer, error) {
	if _, err := s.opts.Detectors.Detector(ctx, id); err != nil {
		return nil, err
	}
	v, err := change()
	if err != nil {
		return nil, err
	}
	s.syncEngine(ctx)
	return &modelAnswer{Body: modelVersionOf(v)}, nil
}

// noModels stands in where no store of model versions is wired.
type noModels struct{}

func (noModels) ModelVersions(context.Context, string) ([]model.ModelVersion, error) { return nil, nil }

func (noModels) PromoteModel(context.Context, string, int64) (model.ModelVersion, error) {
	return model.ModelVersion{}, errNoModels()
}

func (noModels) RollbackModel(context.Context, string) (model.ModelVersion, error) {
	return model.ModelVersion{}, errNoModels()
}

func errNoModels() error {
	return model.Errorf(model.KindConflict, model.SubjectModel, "This program keeps no model versions, so none can be chosen. Train the detector again instead.")
}
