package plan_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/plan"
	"github.com/seed-0f2c7998/perdure/retry"
)

func preset(t *testing.T, name string) retry.Policy {
	t.Helper()
	p, err := retry.Preset(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a plan says is what happens: each attempt of a run begins between the
// plan's earliest and latest instant.
func TestRunsKeepToThePlan(t *testing.T) {
	for _, name := range retry.PresetNames() {
		for range 20 {
			p := preset(t, name)
			planned := plan.Make(p, nil, plan.Facts{})
			synctest.Test(t, func(t *testing.T) {
				p.Classify = retry.Always
				p.Observe = func(context.Context, retry.Event) {}
				begin, n := time.Now(), 0
				err := retry.Do(t.Context(), &p, func(context.Context) error {
					n++
					if n > len(planned.Attempts) { // a run with luckier waits than likely ones
						return errors.New("failed")
					}
					a, at := planned.Attempts[n-1], time.Since(begin)
					late := a.Latest
					if !a.InTime {
						late = p.MaxElapsed
					}
					if at < a.Earliest || at > late {
						t.Errorf("%s: attempt %d began after %v, planned from %v to %v", name, n, at, a.Earliest, late)
					}
					return errors.New("failed")
				})
				if n < planned.Worst.Attempts {
					t.Errorf("%s: %d attempts, planned %d at least: %v", name, n, planned.Worst.Attempts, err)
				}
				if took := time.Since(begin); took > planned.Worst.Ends {
					t.Errorf("%s: took %v, planned %v at worst", name, took, planned.Worst.Ends)
				}
			})
		}
	}
}

func TestChances(t *testing.T) {
	for _, row := range []struct {
		attempts     int
		rate         float64
		success      float64
		mean, outage float64
	}{
		{1, 0.3, 0.7, 1, 1},
		{5, 0.3, 1 - 0.00243, 1.4251, 5},
		{3, 0.5, 0.875, 1.75, 3},
		{4, 1, 0, 4, 4},
	} {
		p := plan.Make(retry.Policy{MaxAttempts: row.attempts}, nil, plan.Facts{FailureRate: row.rate})
		mean, outage := p.Amplification()
		if math.Abs(p.Success()-row.success) > 1e-9 || math.Abs(mean-row.mean) > 1e-9 || outage != row.outage {
			t.Errorf("%d attempts at %v: success %v, load %v and %v; want %v, %v and %v",
				row.attempts, row.rate, p.Success(), mean, outage, row.success, row.mean, row.outage)
		}
	}
}

// A budget pays for one retry when it is fresh, and never for more than half of it.
func TestBudget(t *testing.T) {
	for _, row := range []struct {
		attempts int
		tokens   float64
		want     plan.Budget
	}{
		{1, 10, plan.Budget{Fresh: 0, Full: 0}},
		{3, 10, plan.Budget{Fresh: 1, Full: 2}},
		{99, 10, plan.Budget{Fresh: 1, Full: 5}},
		{5, 1, plan.Budget{Fresh: 1, Full: 1}},
	} {
		p := plan.Make(retry.Policy{MaxAttempts: row.attempts}, &circuit.Config{Budget: row.tokens}, plan.Facts{})
		if *p.Budget != row.want {
			t.Errorf("%d attempts, %v tokens: %+v, want %+v", row.attempts, row.tokens, *p.Budget, row.want)
		}
	}
}

// A policy without any end has a plan that has one.
func TestPlansAreFinite(t *testing.T) {
	for _, p := range []retry.Policy{
		{MaxAttempts: retry.Unlimited},
		{MaxAttempts: math.MaxInt, BaseDelay: 1, MaxDelay: 1, Jitter: retry.NoJitter},
		{MaxAttempts: retry.Unlimited, BaseDelay: 1, MaxDelay: 1, JitterMode: retry.FullJitter, MaxElapsed: time.Hour},
	} {
		planned := plan.Make(p, nil, plan.Facts{FailureRate: 0.5})
		if n := len(planned.Attempts); n == 0 || n > 10_000 || !planned.Endless {
			t.Errorf("%+v: %d attempts, endless %v", p, n, planned.Endless)
		}
		if err := planned.Table(io.Discard); err != nil {
			t.Error(err)
		}
	}
}

func TestPicture(t *testing.T) {
	p := preset(t, "s3_upload")
	p.Name = "a<b"
	for _, policy := range []retry.Policy{p, preset(t, "pipeline"), preset(t, "service"), {Name: "one", MaxAttempts: 1}} {
		planned := plan.Make(policy, nil, plan.Facts{})
		var b bytes.Buffer
		if err := planned.SVG(&b); err != nil {
			t.Fatal(err)
		}
		texts := svgTexts(t, b.Bytes())
		for _, want := range []string{policy.Name + ": ", "70.0 %", "time since the first attempt began"} {
			if !strings.Contains(texts, want) {
				t.Errorf("%s: no text %q in the picture: %s", policy.Name, want, texts)
			}
		}
	}
}

// svgTexts returns the text of an XML document, which it must be.
func svgTexts(t *testing.T, doc []byte) string {
	t.Helper()
	var b strings.Builder
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			b.Write(text)
			b.WriteByte(' ')
		}
	}
}
