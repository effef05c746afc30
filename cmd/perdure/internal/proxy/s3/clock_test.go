package s3_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
)

// An ahead is a store whose clock is an hour ahead, as the proxy's base.
type ahead struct{}

func (ahead) RoundTrip(req *http.Request) (*http.Response, error) {
	now := time.Now().Add(time.Hour)
	res := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Date": {now.UTC().Format(http.TimeFormat)}}, Request: req}
	text := "well"
	signed, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	if err != nil || now.Sub(signed).Abs() > 15*time.Minute {
		res.StatusCode, text = http.StatusForbidden, "<Error><Code>RequestTimeTooSkewed</Code></Error>"
	}
	res.Body, res.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	return res, nil
}

// A request that the store refuses because of its clock is signed again with the time of the store.
func TestTheClockIsCorrected(t *testing.T) {
	store, _ := start(t)
	url := serve(t, store, s3.Key{}, "127.0.0.1:0", func(c *proxy.Config) { c.Base = ahead{} })
	for _, want := range []string{"2", "1"} { // the second request has the corrected clock from the start
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/bikes/a", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || string(body) != "well" || err != nil || res.Header.Get(proxy.HeaderAttempts) != want {
			t.Errorf("%s, %v, %q, %v, want %s attempts", res.Status, res.Header, body, err, want)
		}
	}
}
