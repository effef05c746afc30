package endpoint

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/request"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/shown"
	"github.com/seed-0f2c7998/perdure/internal/stall"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// An explained getter returns errors with the beginning of their response's body.
type explained struct {
	getters.HTTP

	identity string // of the header fields that choose a representation
}

func (g explained) Get(ctx context.Context, r transfer.Range, of *transfer.Version) (res *transfer.Response, err error) {
	err = request.Explained(ctx, func(ctx context.Context) (err error) {
		res, err = g.HTTP.Get(ctx, r, of)
		return err
	})
	return res, err
}

// Source identifies the resource to a later process.
func (g explained) Source() string { return g.HTTP.Source() + g.identity }

// A posting is a source that is the response to a POST. It is for one goroutine at a time.
type posting struct {
	request   *http.Request
	client    *http.Client
	mayRepeat bool
	limits    stall.Limits
}

// open sends the request. If it must not be repeated, no error of it makes package copying call open again: see MayRestart.
func (p *posting) open(ctx context.Context) (*Input, error) {
	if p.mayRepeat {
		ctx = httpretry.Idempotent(ctx)
	}
	req := p.request.Clone(ctx)
	if req.Body != nil {
		var err error
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	req.Header.Set("Accept-Encoding", "identity")
	res, err := send(p.client, req) //nolint:bodyclose // the Input's to close
	if err != nil {
		return nil, err
	}
	return &Input{ReadCloser: &postBody{ReadCloser: res.Body, once: !p.mayRepeat, guard: stall.Guard{Limits: p.limits}}, Info: Info{Attributes: attributes(res.Header), Size: res.ContentLength}}, nil
}

// send returns the response to req if all of its body is to come: a 200, 201 or 203 whose end can be seen.
func send(client *http.Client, req *http.Request) (res *http.Response, err error) {
	err = request.Explained(req.Context(), func(ctx context.Context) error {
		if res, err = client.Do(req.WithContext(ctx)); err != nil { //nolint:bodyclose // closed below, or the caller's to close
			return shown.Error(err, req)
		}
		switch err = httpretry.GaveUp(res); {
		case err != nil:
		case res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated && res.StatusCode != http.StatusNonAuthoritativeInfo:
			err = &httpretry.StatusError{Method: req.Method, URL: shown.URL(req), Status: res.StatusCode}
		case httpretry.MayBeTruncated(res):
			err = download.ErrTruncatable
		default:
			return nil
		}
		_ = res.Body.Close()
		return err
	})
	return res, err
}

// A postBody is a response body that cannot be resumed.
type postBody struct {
	io.ReadCloser

	once  bool // the request must not be repeated
	guard stall.Guard
}

func (b *postBody) Read(p []byte) (int, error) {
	n, err := b.guard.Read(b.ReadCloser, p)
	if err != nil && err != io.EOF && b.once { //nolint:errorlint // io.EOF is never wrapped
		err = fmt.Errorf("the body broke: %w (not repeated: %w)", err, httpretry.ErrNotIdempotent)
	}
	return n, err
}
