package bound_test

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed-0f2c7998/perdure/internal/bound"
)

func TestReader(t *testing.T) {
	tooLarge := errors.New("too large")
	for _, tt := range []struct {
		body  string
		limit int64
		want  string
		err   error
	}{
		{"", 0, "", nil},
		{"x", 0, "", tooLarge},
		{"12345", 5, "12345", nil},
		{"123456", 5, "12345", tooLarge},
		{"123456", math.MaxInt64 - 1, "123456", nil},
	} {
		for name, source := range map[string]io.Reader{"whole": strings.NewReader(tt.body), "by bytes": iotest.OneByteReader(strings.NewReader(tt.body))} {
			r := bound.NewReader(io.NopCloser(source), tt.limit, tooLarge)
			got, err := io.ReadAll(r)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%q with limit %d, %s: %q, %v, want %q, %v", tt.body, tt.limit, name, got, err, tt.want, tt.err)
			}
			if _, err = r.Read(make([]byte, 9)); tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%q with limit %d, %s: then %v", tt.body, tt.limit, name, err)
			}
		}
	}
	r := bound.NewReader(io.NopCloser(strings.NewReader("123456")), 2, tooLarge)
	r.Lift()
	if got, err := io.ReadAll(r); string(got) != "123456" || err != nil {
		t.Errorf("a lifted limit: %q, %v", got, err)
	}
}

func TestHeaderSize(t *testing.T) {
	want := len("A: 1\r\n") + len("A: 22\r\n") + len("Bc: \r\n")
	if got := bound.HeaderSize(map[string][]string{"A": {"1", "22"}, "Bc": {""}}); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}
