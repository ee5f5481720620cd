package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"aiops/client"
)

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer key" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"code":"UNAUTHORIZED","detail":"Send an API key.","request_id":"req_1","status":401}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"items":[{"id":"det_1","name":"checkout latency"}]}`)
	}))
	defer server.Close()

	for _, token := range []string{"key", "another"} {
		c, err := client.NewClientWithResponses(server.URL, client.WithToken(token))
		if err != nil {
			fmt.Println(err)
			return
		}
		answer, err := c.ListDetectorsWithResponse(context.Background(), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := client.Failure(answer.HTTPResponse, answer.ApplicationproblemJSONDefault); err != nil {
			fmt.Println(err)
			continue
		}
		for _, d := range answer.JSON200.Items {
			fmt.Println(d.Id, d.Name)
		}
	}
	// Output:
	// det_1 checkout latency
	// Send an API key. (UNAUTHORIZED, request req_1)
}
