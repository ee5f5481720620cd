package prom_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
	"aiops/internal/source/prom"
)

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"job":"shop"},"values":[[60,"1"],[120,"2"]]}]}}`)
	}))
	defer server.Close()
	c, err := prom.New(prom.Config{Source: model.Source{Name: "main", URL: server.URL}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	answer, err := c.QueryRange(context.Background(), "sum by (job) (rate(requests_total[1m]))", time.Unix(60, 0), time.Unix(120, 0), time.Minute, 0)
	for _, series := range answer {
		fmt.Println(series.Labels, series.Samples, err)
	}
	fmt.Println(c.Health().State)
	// Output:
	// {job="shop"} [{60000 1} {120000 2}] <nil>
	// up
}
