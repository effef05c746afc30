package unzip_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/unzip"
)

func coded(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestResponse(t *testing.T) {
	broken := errors.New("broken")
	whole := coded(t, strings.Repeat("hello ", 1000))
	for _, tt := range []struct {
		name   string
		coding string
		body   io.Reader
		want   string
		err    error
	}{
		{name: "gzip", coding: "gzip", body: bytes.NewReader(whole), want: strings.Repeat("hello ", 1000)},
		{name: "GZIP", coding: "GZIP", body: bytes.NewReader(whole), want: strings.Repeat("hello ", 1000)},
		{name: "identity", body: strings.NewReader("plain"), want: "plain"},
		{name: "another", coding: "br", body: strings.NewReader("coded"), want: "coded"},
		{name: "no gzip", coding: "gzip", body: strings.NewReader("this is no gzip"), err: gzip.ErrHeader},
		{name: "empty", coding: "gzip", body: strings.NewReader("")},
		{name: "cut", coding: "gzip", body: bytes.NewReader(whole[:15]), err: io.ErrUnexpectedEOF},
		{name: "broken at once", coding: "gzip", body: iotest.ErrReader(broken), err: broken},
	} {
		res := &http.Response{Header: http.Header{"Content-Length": {"1"}}, Body: io.NopCloser(tt.body), ContentLength: 1}
		if tt.coding != "" {
			res.Header.Set("Content-Encoding", tt.coding)
		}
		unzip.Response(res)
		var got bytes.Buffer
		_, err := io.Copy(struct{ io.Writer }{&got}, res.Body)
		if !errors.Is(err, tt.err) || tt.err == nil && got.String() != tt.want {
			t.Errorf("%s: %.20q, %v; want %.20q, %v", tt.name, got.String(), err, tt.want, tt.err)
		}
		if res.Uncompressed && (res.ContentLength != -1 || len(res.Header) != 0) {
			t.Errorf("%s: headers %v, length %d tell of the coded body", tt.name, res.Header, res.ContentLength)
		}
		if err := res.Body.Close(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
