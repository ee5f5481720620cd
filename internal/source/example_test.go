package source_test

import (
	"errors"
	"fmt"

	"aiops/internal/model"
	"aiops/internal/source"
)

func ExampleParseQuery() {
	err := source.ParseQuery("sum by (job) (rte(http_requests_total[5m]))")
	var e *model.Error
	if errors.As(err, &e) {
		fmt.Println(e.Message)
		fmt.Println(e.Context["caret"])
	}
	// Output:
	// line 1, column 15: unknown function with name "rte"
	// sum by (job) (rte(http_requests_total[5m]))
	//               ^
}

func ExampleWithMatchers() {
	query, err := source.WithMatchers("rate(http_requests_total[5m])", model.Matcher{Name: "path", Op: model.MatchEqual, Value: `/"} or vector(1) #`})
	fmt.Println(query, err)
	// Output:
	// rate(http_requests_total{path="/\"} or vector(1) #"}[5m]) <nil>
}
