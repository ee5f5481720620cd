package pipeline

import (
	"context"
	"fmt"
	"time"

	"aiops/internal/model"
)

// Bounds of retraining and of a warm start.
const (
	retrainPause = time.Hour // least time between two wishes to retrain a detector
	warmVersions = 8         // model versions that are looked through for a warm start
)

// askForRetraining asks for a training when the definition says that it is due:
// by the clock, or because the scores drift from their calibration. A shadow
// that waits for a decision comes first.
func (r *runner) askForRetraining(ctx context.Context, now time.Time) {
	want := r.detector.Retrain
	if r.e.cfg.Retrain == nil || r.stage != stageLive || r.shadow != nil || now.Before(r.retrainAt) {
		return
	}
	var reason string
	switch {
	case want.OnDrift && r.core.drift.since != 0:
		reason = "retrained because the scores drift"
	case want.Every > 0 && now.Sub(r.trained.CreatedAt) >= want.Every.Std():
		reason = "retrained by schedule"
	default:
		return
	}
	r.retrainAt = now.Add(max(retrainPause, want.Every.Std()/10))
	if err := r.brief(ctx, func(ctx context.Context) error { return r.e.cfg.Retrain(ctx, r.id, reason) }); err != nil {
		r.log.Warn("a training that is due was not begun; it is asked for again", "reason", reason, "err", err)
	}
}

// Retrain trains a detector on as much history as a new one learns from, for
// the reason given. What becomes of the new model version, active or shadow,
// is what the definition's retrain setting says.
func (e *Engine) Retrain(ctx context.Context, id, reason string, progress func(float64)) (model.ModelVersion, error) {
	r, err := e.runner(id)
	if err != nil {
		return model.ModelVersion{}, err
	}
	into := r.detectorNow().Retrain.Into
	if into == "" {
		into = model.ModelActive
	}
	return e.train(ctx, id, time.Time{}, time.Time{}, training{reason: reason, into: into}, progress)
}

// shade lets a trained core score beside the live one as its shadow.
func (r *runner) shade(ctx context.Context, fresh *core, from time.Time, reason string) (model.ModelVersion, error) {
	none := model.ModelVersion{}
	if fingerprintOf(r.detector) != fresh.def.fingerprint {
		return none, model.Errorf(model.KindConflict, model.SubjectDetector, "the definition changed while its models were trained; train again")
	}
	if r.core == nil || r.stage != stageLive || fresh.watermark > r.core.watermark {
		return none, model.Errorf(model.KindConflict, model.SubjectDetector, "the detector does not run at the moment; train it again when it does")
	}
	var rec model.Shadow
	err := r.brief(ctx, func(ctx context.Context) (err error) {
		rec, err = r.e.store.StartShadow(ctx, model.ShadowStart{DetectorID: r.id, Definition: r.detector, BasedOn: r.detector.Version, Reason: reason})
		return err
	})
	if err != nil {
		return none, err
	}
	fresh.setVersion(rec.ModelVersion)
	fresh.past.versions = []versionChange{{from.UnixMilli(), rec.ModelVersion}}
	r.mu.Lock()
	r.stored = &rec
	r.mu.Unlock()
	r.shadow = &shadowRun{rec: rec, def: fresh.def}
	r.installShadow(ctx, r.shadow, fresh)
	if r.shadow.core == nil {
		return none, model.Errorf(model.KindTraining, model.SubjectDetector, "the trained models did not begin to score as a shadow: %s", r.shadow.fault)
	}
	for _, v := range r.versions {
		if v.Version == rec.ModelVersion {
			return v, nil
		}
	}
	return model.ModelVersion{DetectorID: r.id, Version: rec.ModelVersion, State: model.ModelShadow, Reason: reason}, nil
}

// warmStart looks for the state of an earlier model version that fits the
// definition in force, such as that of a version to which people went back.
// Instead of the whole history only the time since is learned then. It returns
// nil when there is none.
func (r *runner) warmStart(ctx context.Context, versions []model.ModelVersion, v *model.ModelVersion) (*core, error) {
	if v.Reason != "definition changed" || len(versions) == 0 {
		return nil, nil
	}
	definitions, err := r.e.store.DetectorVersions(ctx, r.id)
	if err != nil {
		return nil, fmt.Errorf("reading the versions of a detector: %w", err)
	}
	prints := make(map[int64]string, len(definitions))
	for _, d := range definitions {
		prints[d.Version] = fingerprintOf(d)
	}
	def := newDefinition(r.detector, r.e.cfg)
	tried := 0
	for _, old := range versions {
		if prints[old.DetectorVersion] != def.fingerprint || old.State == model.ModelShadow {
			continue
		}
		if tried++; tried > warmVersions {
			break
		}
		c, lost, _, err := r.restore(ctx, def, old)
		if err != nil {
			return nil, err
		}
		if c == nil || lost > 0 || (r.e.now().UnixMilli()-c.watermark)/def.step > r.e.historySteps(def, c.live) {
			continue
		}
		for _, s := range c.series {
			if s != nil {
				s.episode, s.context = nil, nil
			}
		}
		c.prove, c.proofBytes = true, 0
		c.redefine(r.detector, r.definedAt())
		c.setVersion(v.Version)
		v.TrainedFrom, v.Reason = old.TrainedFrom, fmt.Sprintf("definition changed back; warm from model version %d", old.Version)
		r.log.Info("an earlier model version fits the definition", "model_version", old.Version, "watermark", msTime(c.watermark))
		return c, nil
	}
	return nil, nil
}
