package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// putObject stands for a call of a store that is busy the first two times.
func putObject() func(context.Context) error {
	attempt := 0
	return func(context.Context) error {
		if attempt++; attempt < 3 {
			return retry.Transient(errors.New("SlowDown"))
		}
		return nil
	}
}

// printed is a logger like Python's basicConfig: INFO: message.
func printed() *slog.Logger { return slog.New(lines{os.Stdout}) }

func ExampleDo() {
	upload := retry.S3Upload()
	upload.Name = "upload_to_s3"
	upload.BaseDelay = 10 * time.Millisecond // a preset waits a second
	upload.Jitter = retry.NoJitter           // and adds up to another
	upload.Observe = retry.LogTo(printed())

	err := retry.Do(context.Background(), &upload, putObject())
	fmt.Println(err)
	// Output:
	// INFO: Retrying upload_to_s3 in 0.010 seconds (attempt 1/5)
	// INFO: Retrying upload_to_s3 in 0.020 seconds (attempt 2/5)
	// INFO: upload_to_s3 succeeded on attempt 3
	// <nil>
}

func ExampleValue() {
	upload := retry.Policy{BaseDelay: time.Millisecond, MaxDelay: time.Second, Jitter: retry.NoJitter}
	put := putObject()
	key, err := retry.Value(context.Background(), &upload, func(ctx context.Context) (string, error) {
		return "data.json", put(ctx)
	})
	fmt.Println(key, err)
	// Output: data.json <nil>
}

// What became of an operation: used up, not worth a retry, or done.
func ExampleError() {
	upload := retry.S3Upload()
	upload.Name = "upload_to_s3"
	upload.BaseDelay, upload.Jitter = time.Millisecond, retry.NoJitter
	upload.Observe = func(context.Context, retry.Event) {}

	for _, failure := range []error{
		retry.Transient(errors.New("503 SlowDown")),
		errors.New("403 AccessDenied"),
	} {
		err := retry.Do(context.Background(), &upload, func(context.Context) error { return failure })
		var exhausted *retry.Error
		switch {
		case errors.Is(err, retry.ErrExhausted) && errors.As(err, &exhausted):
			fmt.Printf("Upload failed after %d attempts\n", exhausted.Attempts)
			fmt.Printf("Last error: %v\n", exhausted.Last)
		case err != nil:
			fmt.Printf("Non-retryable error: %v\n", err)
		}
	}
	// Output:
	// Upload failed after 5 attempts
	// Last error: 503 SlowDown
	// Non-retryable error: 403 AccessDenied
}

// The circuit breaker as part of a policy.
func ExamplePolicy_breaker() {
	uploads := circuit.New("s3_upload", circuit.Config{
		FailureThreshold: 5,
		RecoveryTimeout:  30 * time.Second,
		Observe:          circuit.LogTo(printed()),
	})
	upload := retry.S3Upload()
	upload.Name, upload.BaseDelay, upload.Jitter = "upload", time.Millisecond, retry.NoJitter
	upload.Observe = func(context.Context, retry.Event) {}
	upload.Breaker = uploads

	down := func(context.Context) error { return retry.Transient(errors.New("503")) }
	err := retry.Do(context.Background(), &upload, down)
	fmt.Println(err)

	err = retry.Do(context.Background(), &upload, down) // is not made
	if open, ok := errors.AsType[*circuit.OpenError](err); ok {
		fmt.Println(open.Name, open.State)
	}
	// Output:
	// WARN: Circuit breaker 's3_upload' transitioned from closed to open (5 consecutive failures)
	// upload: attempts exhausted after 5 attempts: 503
	// s3_upload open
}

// Errors that only you know to be worth a retry.
func ExamplePolicy_classify() {
	busy := errors.New("the warehouse is busy")
	p := retry.Policy{
		BaseDelay: time.Millisecond, MaxDelay: time.Second, Jitter: retry.NoJitter,
		RetryOn:  []string{"LockTimeout", "503"},
		IgnoreOn: []string{"AccessDenied"},
		Classify: func(err error) retry.Class {
			if errors.Is(err, busy) {
				return retry.ClassTransient
			}
			return retry.ClassUnknown // the general rules know
		},
	}
	for _, err := range []error{busy, errors.New("no such table"), context.DeadlineExceeded, retry.Permanent(busy)} {
		class, _ := p.ClassOf(err)
		fmt.Println(class)
	}
	// Output:
	// transient
	// unknown
	// transient
	// permanent
}

// A server that asks to be left alone is not called earlier, and if it asks
// for more than the policy allows, the error says when to come back.
func ExampleAfter() {
	p := retry.APICall()
	p.Observe = func(context.Context, retry.Event) {}
	err := retry.Do(context.Background(), &p, func(context.Context) error {
		return retry.After(errors.New("429 Too Many Requests"), 90*time.Second)
	})
	var later *retry.Error
	if errors.Is(err, retry.ErrRetryLater) && errors.As(err, &later) {
		fmt.Println("come back in", time.Until(later.RetryAt).Round(10*time.Second))
	}
	// Output: come back in 1m30s
}

// The delays of a policy, without a call.
func ExamplePolicy_Range() {
	p := retry.Default()
	for attempt := 1; attempt < 8; attempt++ {
		low, width := p.Range(attempt, retry.ClassTransient)
		fmt.Printf("%d: %v to %v\n", attempt, low, low+width)
	}
	// Output:
	// 1: 1s to 2s
	// 2: 2s to 3s
	// 3: 4s to 5s
	// 4: 8s to 9s
	// 5: 16s to 17s
	// 6: 29s to 30s
	// 7: 29s to 30s
}

// What a policy would do with a failure, as a pure function.
func ExamplePolicy_Decide() {
	p := retry.Policy{Jitter: retry.NoJitter}
	refused := retry.Transient(errors.New("connection refused"))
	for _, attempt := range []int{1, 4, 5} {
		d := p.Decide(retry.Outcome{Attempt: attempt, Err: refused}, 0)
		fmt.Println(d.Class, d.Delay, d.Stop)
	}
	// Output:
	// transient 1s <nil>
	// transient 8s <nil>
	// transient 0s attempts exhausted
}

// Policies in text: seconds, or durations with a unit.
func ExamplePolicy_Set() {
	p := retry.S3Upload()
	fmt.Println(p.Set("max_attempts", "7"))
	fmt.Println(p.Set("base_delay", "0.5"))
	fmt.Println(p.Set("jitter", "250ms"))
	fmt.Println(p.Set("max_attempts", "0"))
	data, err := json.Marshal(p)
	fmt.Println(string(data), err)
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// invalid value "0" for max_attempts: must be a whole number of at least 1, or unlimited
	// {"max_attempts":7,"base_delay":0.5,"max_delay":30,"exponential_base":2,"jitter":0.25} <nil>
}

func ExamplePolicy_ForRerun() {
	// A step of an orchestrator, which tries it again and tells how often it did.
	for tries := range 4 {
		p := retry.S3Upload().ForRerun(tries)
		fmt.Println(p.Attempts())
	}
	// Output:
	// 5
	// 2
	// 1
	// 1
}

func ExamplePreset() {
	p, err := retry.Preset("s3_heavy")
	fmt.Println(p.Attempts(), p.BaseDelay, p.MaxDelay, p.Jitter, err)
	_, err = retry.Preset("s3_heavvy")
	fmt.Println(err)
	// Output:
	// 3 2s 1m0s 2s <nil>
	// invalid value "s3_heavvy" for preset: must be one of default, s3_upload, s3_download, s3_heavy, api_call, service, pipeline; did you mean s3_heavy?
}

func ExampleStatusClass() {
	for _, status := range []int{200, 404, 429, 503} {
		fmt.Println(status, retry.StatusClass(status))
	}
	// Output:
	// 200 unknown
	// 404 permanent
	// 429 throttled
	// 503 transient
}
