package endpoint

import (
	"context"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/shown"
)

// A Versioned endpoint can be asked whether it has changed since it was copied.
type Versioned interface {
	// Version returns the ETag and the Last-Modified of what was copied; "" if it has none.
	Version() (etag, modified string)
	// Unchanged reports whether the source still has the version.
	Unchanged(ctx context.Context, etag, modified string) (bool, error)
}

func (w *web) Version() (etag, modified string) {
	if w.getter == nil || w.getter.Header() == nil {
		return "", ""
	}
	h := w.getter.Header()
	return h.Get("ETag"), h.Get("Last-Modified")
}

// Unchanged sends a conditional GET, and reports whether the response is a 304.
func (w *web) Unchanged(ctx context.Context, etag, modified string) (bool, error) {
	req := w.request.Clone(ctx)
	req.Header.Set("Accept-Encoding", "identity")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	if modified != "" {
		req.Header.Set("If-Modified-Since", modified) // a server ignores it if there is the other
	}
	res, err := w.client.Do(req)
	if err != nil {
		return false, Explain("read", w.Where(), shown.Error(err, req))
	}
	defer func() { _ = res.Body.Close() }()
	if err := httpretry.GaveUp(res); err != nil {
		return false, Explain("read", w.Where(), err)
	}
	return res.StatusCode == http.StatusNotModified, nil
}
