package app

import "testing"

// TestClassesHaveOneName: what a connection refuses is counted under the name
// that admission has for its class.
func TestClassesHaveOneName(t *testing.T) {
	t.Parallel()
	for of, class := range classOf {
		if class.String() != string(of) {
			t.Errorf("%s is called %s by admission", of, class)
		}
	}
}
