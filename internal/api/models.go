package api

import (
	"context"

	"aiops/internal/model"
)

// noModels stands in where no store of model versions is wired.
type noModels struct{}

func (noModels) ModelVersions(context.Context, string) ([]model.ModelVersion, error) { return nil, nil }

func (noModels) PromoteModel(context.Context, string, int64) (model.ModelVersion, error) {
	return model.ModelVersion{}, errNoModels()
}

func (noModels) RollbackModel(context.Context, string) (model.ModelVersion, error) {
	return model.ModelVersion{}, errNoModels()
}

func (noModels) ShadowModel(context.Context, string, int64) (model.ModelVersion, error) {
	return model.ModelVersion{}, errNoModels()
}

func errNoModels() error {
	return model.Errorf(model.KindConflict, model.SubjectModel, "This program keeps no model versions, so none can be chosen. Train the detector again instead.")
}
