package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/pipeline"
)

// provisionStore is where provisioned definitions are written.
type provisionStore interface {
	sourceStore
	CreateSource(ctx context.Context, s model.Source) (model.Source, error)
	UpdateSource(ctx context.Context, s model.Source, expect int64) (model.Source, error)
	DeleteSource(ctx context.Context, id string, expect int64) error
	AllDetectors(ctx context.Context) ([]model.Detector, error)
	CreateDetector(ctx context.Context, d model.Detector) (model.Detector, error)
	UpdateDetector(ctx context.Context, d model.Detector, expect int64, event model.EventType) (model.Detector, error)
	DeleteDetector(ctx context.Context, id string, expect int64) error
}

// provision makes the stored definitions that belong to the configuration
// file equal to it: it adds what is new, changes what changed, removes what is
// gone, and takes over what people had made by hand under the same name. It
// writes nothing that is already so.
func provision(ctx context.Context, store provisionStore, c config.Config, log *slog.Logger) error {
	if err := provisionSources(ctx, store, c.Sources, log); err != nil {
		return err
	}
	return provisionDetectors(ctx, store, c.Detectors, log)
}

func provisionSources(ctx context.Context, store provisionStore, wanted []config.Source, log *slog.Logger) error {
	stored, err := store.Sources(ctx)
	if err != nil {
		return fmt.Errorf("reading the sources: %w", err)
	}
	byName := make(map[string]model.Source, len(stored))
	for _, s := range stored {
		byName[s.Name] = s
	}
	keep := map[string]bool{}
	for _, w := range wanted {
		definition := w.Definition()
		keep[definition.Name] = true
		old, exists := byName[definition.Name]
		definition.ID = old.ID
		switch {
		case !exists:
			_, err = store.CreateSource(ctx, definition)
		case !old.Provisioned || !sameSource(old, definition):
			_, err = store.UpdateSource(ctx, definition, 0)
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("provisioning source %s: %w", definition.Name, err)
		}
		log.Info("source provisioned", "source", definition.Name)
	}
	for _, s := range stored {
		if s.Provisioned && !keep[s.Name] && s.Type != model.SourceBuiltin {
			if err := store.DeleteSource(ctx, s.ID, 0); err != nil {
				return fmt.Errorf("removing source %s, which the configuration no longer has: %w", s.Name, err)
			}
			log.Info("source removed", "source", s.Name)
		}
	}
	return nil
}

func provisionDetectors(ctx context.Context, store provisionStore, wanted []config.Detector, log *slog.Logger) error {
	stored, err := store.AllDetectors(ctx)
	if err != nil {
		return fmt.Errorf("reading the detectors: %w", err)
	}
	byName := make(map[string]model.Detector, len(stored))
	for _, d := range stored {
		byName[d.Name] = d
	}
	keep := map[string]bool{}
	for _, w := range wanted {
		definition, err := w.Definition()
		if err != nil {
			return fmt.Errorf("provisioning detector %s: %w", w.Name, err)
		}
		pipeline.Defaults(&definition)
		keep[definition.Name] = true
		old, exists := byName[definition.Name]
		switch {
		case !exists:
			_, err = store.CreateDetector(ctx, definition)
		case !sameDetector(old, definition):
			definition.ID = old.ID
			_, err = store.UpdateDetector(ctx, definition, 0, model.EventDetectorUpdated)
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("provisioning detector %s: %w", definition.Name, err)
		}
		log.Info("detector provisioned", "detector", definition.Name)
	}
	for _, d := range stored {
		if d.Provisioned && !keep[d.Name] {
			if err := store.DeleteDetector(ctx, d.ID, 0); err != nil && !isNotFound(err) {
				return fmt.Errorf("removing detector %s, which the configuration no longer has: %w", d.Name, err)
			}
			log.Info("detector removed", "detector", d.Name)
		}
	}
	return nil
}

// sameDetector reports whether two definitions say the same, whatever their
// versions and times.
func sameDetector(a, b model.Detector) bool {
	a.ID, a.Version, a.CreatedAt, a.UpdatedAt = b.ID, b.Version, b.CreatedAt, b.UpdatedAt
	if len(a.Labels) == 0 && len(b.Labels) == 0 {
		a.Labels, b.Labels = nil, nil
	}
	if string(a.Parameters) == string(b.Parameters) {
		a.Parameters, b.Parameters = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

func isNotFound(err error) bool {
	var e *model.Error
	return errors.As(err, &e) && e.Kind == model.KindNotFound
}
