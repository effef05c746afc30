package endpoint

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/pages"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/request"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A book is a source that is the items of all pages of an API. It is for one goroutine at a time.
type book struct {
	session *Session
	more    *request.Request
	client  *http.Client
	first   *http.Request
	left    bool // a page has come from another scheme, host or port
}

// open returns the items as JSON lines.
func (b *book) open(ctx context.Context) *Input {
	b.left = false
	r := &pages.Reader{
		Spec: *b.session.Pages, Get: b.get,
		Show: func(u *url.URL) string { return (&web{text: u.String()}).String() },
		Done: func(n, items int) {
			text := fmt.Sprintf("Read %s with %s", report.Count(n, "page", "pages"), report.Count(items, "item", "items"))
			if n == 1 && b.session.Pages.Many() {
				text += "; it names no next page: if there are more, check --next"
			}
			b.session.note("pages", text)
		},
	}
	return &Input{ReadCloser: r.Start(ctx, b.first.URL), Info: Info{Attributes: Attributes{ContentType: "application/x-ndjson"}, Size: -1}}
}

// get requests one page, and again if its body breaks and cannot be resumed.
func (b *book) get(ctx context.Context, u *url.URL) (pages.Page, error) {
	page, err := retry.Value(ctx, b.session.Again(), func(ctx context.Context) (pages.Page, error) {
		page, err := b.try(ctx, u)
		switch {
		case err == nil:
			return page, nil
		case MayRestart(err):
			return page, retry.Transient(err)
		}
		return page, retry.Permanent(err)
	})
	return page, ended(err)
}

// try requests one page. Once a page has come from elsewhere, pages have no fields and no user: a server that named
// them must not get what is for another one.
func (b *book) try(ctx context.Context, u *url.URL) (page pages.Page, err error) {
	address := *u
	probe := http.Request{URL: &address}
	more := b.more
	b.left = b.left || !request.SameOrigin(&probe, b.first)
	if address.User = b.first.URL.User; b.left {
		address.User, more = nil, new(request.Request)
	}
	req, err := more.New(ctx, address.String())
	if err != nil {
		return page, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	res, err := send(b.client, req)
	if err != nil {
		return page, err
	}
	defer func() { _ = res.Body.Close() }()
	b.left = b.left || res.Request != nil && !request.SameOrigin(res.Request, b.first)
	body, err := io.ReadAll(io.LimitReader(res.Body, pages.MaxSize+1))
	if err == nil && len(body) > pages.MaxSize {
		err = &httpretry.LimitError{What: "the page", Limit: pages.MaxSize}
	}
	page = pages.Page{Body: body, Header: res.Header, URL: &address, Quote: func() string { return more.Quote(req, body) }}
	if res.Request != nil {
		page.URL = res.Request.URL
	}
	return page, err
}
