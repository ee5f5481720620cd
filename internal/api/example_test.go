package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"aiops/internal/api"
)

func ExampleLookupError() {
	row, _ := api.LookupError(api.CodeStorageFull)
	fmt.Println(row.Status, row.Retryable, row.Title)
	// Output: 507 true No space is left
}

func ExampleStarting() {
	rec := httptest.NewRecorder()
	api.Starting(nil).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	fmt.Println(rec.Code, rec.Header().Get("Content-Type"), rec.Header().Get("Retry-After"))
	// Output: 503 application/problem+json 1
}
