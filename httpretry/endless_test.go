package httpretry_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A cyclic error wraps itself.
type cyclic struct{}

func (c *cyclic) Error() string { return "cyclic" }
func (c *cyclic) Unwrap() error { return c }

// An unending error makes a new error at each Unwrap.
type unending struct{ _ int }

func (*unending) Error() string { return "unending" }
func (*unending) Unwrap() error { return new(unending) }

// A forking error wraps itself twice.
type forking struct{}

func (*forking) Error() string     { return "forking" }
func (f *forking) Unwrap() []error { return []error{f, f} }

// An error without an innermost error ends a request as any other error does. Some of these requests never returned.
func TestErrorsThatHaveNoEnd(t *testing.T) {
	for _, odd := range []error{new(cyclic), new(unending), new(forking)} {
		fails := roundTripper(func(*http.Request) (*http.Response, error) { return nil, odd })
		half := roundTripper(func(*http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader("half"), brokenReader{odd})
			return &http.Response{
				StatusCode: 200, Header: http.Header{"Etag": {`"v1"`}}, ContentLength: -1, ProtoMajor: 1,
				TransferEncoding: []string{"chunked"}, Body: io.NopCloser(body),
			}, nil
		})
		upload := func() io.Reader { return io.MultiReader(strings.NewReader("half"), brokenReader{odd}) }
		server := roundTripper(func(req *http.Request) (*http.Response, error) {
			_, err := io.Copy(io.Discard, req.Body)
			req.Body.Close()
			return nil, err
		})
		for _, tt := range []struct {
			name string
			row  row
			base http.RoundTripper
		}{
			{"GET", row{}, fails},
			{"POST", row{method: "POST"}, fails},
			{"the body of a GET", row{}, half},
			{"the body of a POST", row{method: "POST"}, half},
			{"an upload", row{method: "PUT", upload: upload}, server},
		} {
			for _, options := range sameOptions() {
				options.OnResume = func(httpretry.Resumption) {}
				_, _, err := tt.row.do(t, "http://example.org", httpretry.NewTransport(tt.base, options))
				if err == nil || !strings.Contains(err.Error(), odd.Error()) {
					t.Errorf("%s: %v; want %v", tt.name, err, odd)
				}
			}
		}
	}
}

// A deeply wrapped error is found, up to the limit.
func TestDeepErrors(t *testing.T) {
	var deep error = &httpretry.LimitError{What: "this", Limit: 1}
	for range 50 {
		deep = errors.Join(errors.New("other"), deep)
	}
	attempts := 0
	fails := roundTripper(func(*http.Request) (*http.Response, error) { attempts++; return nil, deep })
	_, _, err := row{}.do(t, "http://example.org", httpretry.NewTransport(fails, httpretry.Options{Policy: quick()}))
	if _, ok := errors.AsType[*retry.Error](err); ok || attempts != 1 || !errors.Is(err, deep) {
		t.Errorf("%v after %d attempts; want a permanent error after one", err, attempts)
	}
}

type brokenReader struct{ err error }

func (f brokenReader) Read([]byte) (int, error) { return 0, f.err }
