package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/seed-0f2c7998/perdure/metrics"
	"github.com/seed-0f2c7998/perdure/retry"
)

func Example() {
	var registry metrics.Registry // a program usually takes metrics.Default
	fetch := retry.Policy{Name: "fetch", BaseDelay: time.Millisecond, Jitter: retry.NoJitter, Metrics: &registry}
	fetch.Observe = func(context.Context, retry.Event) {}

	attempts := 0
	_ = retry.Do(context.Background(), &fetch, func(context.Context) error {
		if attempts++; attempts < 2 {
			return retry.Transient(errors.New("connection reset"))
		}
		return nil
	})

	page := httptest.NewRecorder()
	registry.ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, family := range registry.Snapshot().Families[:2] {
		for _, s := range family.Samples {
			fmt.Println(family.Name+s.Suffix, s.Labels[2:], s.Value)
		}
	}
	fmt.Println(page.Header().Get("Content-Type"))
	// Output:
	// perdure_attempts_total [{attempt 1} {class transient}] 1
	// perdure_attempts_total [{attempt 2} {class success}] 1
	// perdure_calls_total [{outcome success} {reason }] 1
	// text/plain; version=0.0.4; charset=utf-8
}
