package logmine_test

import (
	"fmt"

	"aiops/internal/logmine"
)

func Example() {
	m, err := logmine.New(logmine.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, line := range []string{
		"Received block 17 of size 67108864 from /10.251.42.84",
		"Verification succeeded for block 17",
		"Received block 18 of size 91178 from /10.251.42.9",
	} {
		m.Add([]byte(line))
	}
	for _, t := range m.Templates() {
		fmt.Println(t.Count, t.Text)
	}
	// Output:
	// 2 Received block <*> of size <*> from <*>
	// 1 Verification succeeded for block <*>
}
