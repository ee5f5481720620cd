package deploy

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

var rewrite = flag.Bool("rewrite", false, "write kubernetes/aiops.yaml anew")

// render returns the chart's documents in order of their names.
func render(values map[string]any) ([]string, error) {
	chart, err := loader.LoadDir("helm/aiops")
	if err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: "aiops", Namespace: "aiops", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) == ".yaml" && strings.TrimSpace(files[name]) != "" {
			out = append(out, strings.TrimSpace(files[name])+"\n")
		}
	}
	return out, nil
}

// decode reads one document as its Kubernetes type and refuses unknown and
// repeated fields.
func decode(document string) (runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme, networking.AddToScheme, disruption.AddToScheme, monitoring.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	object, _, err := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer().Decode([]byte(document), nil, nil)
	return object, err
}

// restricted says what of the Pod Security Standard "restricted" a pod breaks.
func restricted(t *testing.T, set *apps.StatefulSet) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var broken []string
	for _, r := range evaluator.EvaluatePod(level, &set.Spec.Template.ObjectMeta, &set.Spec.Template.Spec) {
		if !r.Allowed {
			broken = append(broken, r.ForbiddenReason)
		}
	}
	return broken
}

func everything() map[string]any {
	return map[string]any{
		"ingress":        map[string]any{"enabled": true, "host": "aiops.example.com", "className": "nginx", "tlsSecretName": "tls", "annotations": map[string]any{"a": "b"}},
		"serviceMonitor": map[string]any{"enabled": true, "labels": map[string]any{"release": "main"}, "tokenSecretName": "scrape"},
		"networkPolicy":  map[string]any{"from": []any{map[string]any{"namespaceSelector": map[string]any{}}}},
		"persistence":    map[string]any{"storageClassName": "fast"},
		"env":            []any{map[string]any{"name": "DATABASE_URL", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "db", "key": "url"}}}},
		"envFrom":        []any{map[string]any{"secretRef": map[string]any{"name": "more"}}},
		"nodeSelector":   map[string]any{"disk": "ssd"}, "podAnnotations": map[string]any{"x": "y"},
		"tolerations": []any{map[string]any{"key": "k", "operator": "Exists"}},
		"affinity":    map[string]any{"nodeAffinity": map[string]any{}},
	}
}

func TestChartRendersValidObjects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values map[string]any
		kinds  []string
	}{
		"defaults":       {nil, []string{"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"}},
		"everything":     {everything(), []string{"ConfigMap", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet"}},
		"three nodes":    {map[string]any{"replicas": 3, "config": map[string]any{"storage": map[string]any{"postgres": map[string]any{"url": "${DATABASE_URL}"}, "master_key": "${MASTER_KEY}"}}}, []string{"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"}},
		"nothing stored": {map[string]any{"persistence": map[string]any{"enabled": false}, "networkPolicy": map[string]any{"enabled": false}}, []string{"ConfigMap", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"}},
	} {
		documents, err := render(c.values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var kinds []string
		for _, d := range documents {
			object, err := decode(d)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, d)
				continue
			}
			kinds = append(kinds, object.GetObjectKind().GroupVersionKind().Kind)
			if set, ok := object.(*apps.StatefulSet); ok {
				checkSet(t, name, set)
			}
		}
		slices.Sort(kinds)
		if !slices.Equal(kinds, c.kinds) {
			t.Errorf("%s: rendered %v, want %v", name, kinds, c.kinds)
		}
	}
}

func checkSet(t *testing.T, name string, set *apps.StatefulSet) {
	t.Helper()
	if broken := restricted(t, set); len(broken) > 0 {
		t.Errorf("%s: the pod breaks the standard: %v", name, broken)
	}
	spec := set.Spec.Template.Spec
	c := spec.Containers[0]
	if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("%s: the root file system can be written", name)
	}
	if c.StartupProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe == nil {
		t.Errorf("%s: a probe is missing", name)
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("%s: a resource is missing: %+v", name, c.Resources)
	}
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
	}
	for _, v := range set.Spec.VolumeClaimTemplates {
		volumes[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("%s: the volume %s is mounted and not defined", name, m.Name)
		}
	}
}

// TestChecksFindFaults is the control of the test above.
func TestChecksFindFaults(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]map[string]any{
		"a mistyped value":    {"persistance": map[string]any{"enabled": false}},
		"a size without unit": {"persistence": map[string]any{"size": "10"}},
		"replicas on SQLite":  {"replicas": 2},
		"no replica":          {"replicas": 0},
		"an ingress for all":  {"ingress": map[string]any{"enabled": true}},
	} {
		if _, err := render(values); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	documents, err := render(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(documents, "---\n")
	for _, d := range documents {
		if !strings.Contains(d, "kind: StatefulSet") {
			continue
		}
		if _, err := decode(strings.Replace(d, "serviceName:", "servicesName:", 1)); err == nil {
			t.Error("an unknown field was accepted")
		}
		for old, spoilt := range map[string]string{
			"runAsNonRoot: true":              "runAsNonRoot: false",
			"allowPrivilegeEscalation: false": "allowPrivilegeEscalation: true",
			"{drop: [ALL]}":                   "{}",
			"{type: RuntimeDefault}":          "{type: Unconfined}",
		} {
			if !strings.Contains(d, old) {
				t.Errorf("%q is not in the manifest", old)
				continue
			}
			object, err := decode(strings.Replace(d, old, spoilt, 1))
			if err != nil {
				t.Fatal(err)
			}
			if len(restricted(t, object.(*apps.StatefulSet))) == 0 {
				t.Errorf("%s went unnoticed", spoilt)
			}
		}
	}
	if !strings.Contains(all, "kind: StatefulSet") {
		t.Error("there is no StatefulSet")
	}
}

// TestPlainManifests holds kubernetes/aiops.yaml to what the chart renders.
func TestPlainManifests(t *testing.T) {
	t.Parallel()
	documents, err := render(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Rendered from helm/aiops with its defaults; `make generate` writes it.\n" +
		"# kubectl create namespace aiops && kubectl apply -f aiops.yaml\n---\n" + strings.ReplaceAll(strings.Join(documents, "---\n"), "managed-by: Helm", "managed-by: kubectl")
	const file = "kubernetes/aiops.yaml"
	if *rewrite {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, []byte(want)) {
		t.Error(file + " is not what the chart renders; run `make generate`")
	}
	for _, d := range strings.Split(string(got), "\n---\n")[1:] {
		if _, err := decode(d); err != nil {
			t.Error(err)
		}
	}
}

// configOf returns the configuration file inside the chart's ConfigMap.
func configOf(values map[string]any) (string, error) {
	documents, err := render(values)
	if err != nil {
		return "", err
	}
	for _, d := range documents {
		object, err := decode(d)
		if err != nil {
			return "", err
		}
		if m, ok := object.(*core.ConfigMap); ok {
			return m.Data["aiops.yaml"], nil
		}
	}
	return "", fmt.Errorf("there is no ConfigMap")
}
