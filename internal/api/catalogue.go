package api

import (
	"context"
	"net/http"

	"aiops/internal/model"
)

func (s *server) registerErrors() {
	register(s, operation{id: "list-errors", method: http.MethodGet, path: "/api/v1/errors", tag: tagErrors, summary: "List every error code",
		description: "The same table that every problem is made from.", codes: []Code{CodeValidation}}, s.listErrors)
	register(s, operation{id: "get-error", method: http.MethodGet, path: "/api/v1/errors/{code}", tag: tagErrors, summary: "Get one error code",
		description: "The address that a problem's type names.", codes: []Code{CodeValidation, CodeNotFound}}, s.getError)
}

// ErrorCodeList is the table of errors.
type ErrorCodeList struct {
	Items      []ErrorCode `json:"items"`
	NextCursor string      `json:"next_cursor" doc:"Always empty"`
}

type listErrorsOutput struct {
	Tagged
	Body ErrorCodeList
}

func (s *server) listErrors(context.Context, *struct{}) (*listErrorsOutput, error) {
	return &listErrorsOutput{Body: ErrorCodeList{Items: Errors()}}, nil
}

type getErrorInput struct {
	Code string `path:"code" maxLength:"64" doc:"The code" example:"NOT_FOUND"`
}

type getErrorOutput struct {
	Tagged
	Body ErrorCode
}

func (s *server) getError(_ context.Context, in *getErrorInput) (*getErrorOutput, error) {
	row, ok := LookupError(Code(in.Code))
	if !ok {
		return nil, model.Errorf(model.KindNotFound, "", "There is no error code %q; list them at /api/v1/errors.", in.Code)
	}
	return &getErrorOutput{Body: row}, nil
}
