package endpoint

import (
	"context"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/validator"
)

// A Versioned endpoint can be asked whether it has changed since it was copied.
type Versioned interface {
	// Version returns the strong ETag of what was copied, or else its Last-Modified, if that is so old that another change
	// would have another one; "" if it has none.
	Version() (etag, modified string)
	// Unchanged reports whether the source still has the version.
	Unchanged(ctx context.Context, etag, modified string) (bool, error)
}

func (w *web) Version() (etag, modified string) {
	if w.getter == nil || w.getter.Header() == nil {
		return "", ""
	}
	return validator.Of(w.getter.Header())
}

// Unchanged sends a conditional GET, and reports whether the response is a 304, or has the ETag although the server ignores
// conditions.
func (w *web) Unchanged(ctx context.Context, etag, modified string) (bool, error) {
	req := w.request.Clone(ctx)
	req.Header.Set("Accept-Encoding", "identity")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	if modified != "" {
		req.Header.Set("If-Modified-Since", modified)
	}
	res, err := w.client.Do(req)
	if err != nil {
		return false, Explain("read", w.Where(), shown.Error(err, req))
	}
	defer func() { _ = res.Body.Close() }()
	if err := httpretry.GaveUp(res); err != nil {
		return false, Explain("read", w.Where(), err)
	}
	same := res.StatusCode == http.StatusOK && etag != "" && res.Header.Get("ETag") == etag
	return same || res.StatusCode == http.StatusNotModified, nil
}
