package testseed_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// A report is what a test would report.
type report struct {
	testing.TB

	lines  []string
	failed bool
}

func (r *report) Helper() {}

func (r *report) Logf(format string, args ...any) {
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *report) Fatalf(format string, args ...any) {
	r.failed = true
	r.Logf(format, args...)
	runtime.Goexit()
}

// of returns what Of gives a test of its own.
func of(fixed uint64) (seed uint64, r *report) {
	r = &report{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		seed = testseed.Of(r, fixed)
	}()
	<-done
	return seed, r
}

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  uint64 // 0: refused
	}{
		{"", 7},
		{"12", 12},
		{"4294967295", 4294967295},
		{"4294967296", 0},
		{"-1", 0},
		{"1.5", 0},
		{"randon", 0},
		{" 1", 0},
	} {
		t.Setenv(testseed.Variable, tt.value)
		seed, r := of(7)
		if seed != tt.want || r.failed != (tt.want == 0) {
			t.Errorf("%q: seed %d, refused %v; want %d", tt.value, seed, r.failed, tt.want)
		}
		said := fmt.Sprintf("%s=%d", testseed.Variable, tt.want)
		if tt.want == 0 {
			said = fmt.Sprintf("%s is %q, want random or ", testseed.Variable, tt.value)
		}
		if all := strings.Join(r.lines, "\n"); !strings.HasPrefix(all, said) {
			t.Errorf("%q: said %q, want %q", tt.value, all, said)
		}
	}
}

func TestOfDraws(t *testing.T) {
	t.Setenv(testseed.Variable, "random")
	drawn := map[uint64]bool{}
	for range 20 {
		seed, r := of(7)
		drawn[seed] = true
		if want := fmt.Sprintf("%s=%d", testseed.Variable, seed); len(r.lines) != 1 || r.lines[0] != want {
			t.Errorf("said %q, want %q", r.lines, want)
		}
	}
	if len(drawn) < 15 {
		t.Errorf("20 seeds are %d different ones", len(drawn))
	}
}
