package circuit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// plain returns a logger that writes level and message to standard output.
func plain() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key != slog.LevelKey && a.Key != slog.MessageKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// putObject stands for the call of an S3 client.
func putObject(data []byte) error {
	if len(data) == 0 {
		return errors.New("SlowDown: please reduce your request rate")
	}
	return nil
}

// A breaker around a call, without Do: acquire, call, record.
func Example() {
	upload := circuit.New("s3_upload", circuit.Config{
		FailureThreshold: 5,
		RecoveryTimeout:  30 * time.Second,
		Observe:          circuit.LogTo(plain()),
	})
	put := func(key string, data []byte) (string, error) {
		if !upload.Allow() {
			return "", &circuit.OpenError{Name: upload.Name(), State: upload.State()}
		}
		if err := putObject(data); err != nil {
			upload.RecordFailure()
			return "", err
		}
		upload.RecordSuccess()
		return key, nil
	}

	fmt.Println(put("data.json", []byte("{}")))
	for range 6 {
		_, err := put("data.json", nil)
		fmt.Println(err)
	}
	fmt.Println(upload.State())
	// Output:
	// data.json <nil>
	// SlowDown: please reduce your request rate
	// SlowDown: please reduce your request rate
	// SlowDown: please reduce your request rate
	// SlowDown: please reduce your request rate
	// level=WARN msg="Circuit breaker 's3_upload' transitioned from closed to open (5 consecutive failures)"
	// SlowDown: please reduce your request rate
	// circuit breaker "s3_upload" is open
	// open
}

// Do asks, calls and records in one.
func ExampleBreaker_Do() {
	upload := circuit.New("s3_upload", circuit.Config{FailureThreshold: 1, Observe: circuit.LogTo(plain())})
	ctx := context.Background()
	for range 2 {
		err := upload.Do(ctx, func(context.Context) error { return putObject(nil) })
		if open, ok := errors.AsType[*circuit.OpenError](err); ok {
			fmt.Println(open.Name, "is", open.State, "for", time.Until(open.RetryAt).Round(time.Second))
			continue
		}
		fmt.Println(err)
	}
	// Output:
	// level=WARN msg="Circuit breaker 's3_upload' transitioned from closed to open (1 consecutive failure)"
	// SlowDown: please reduce your request rate
	// s3_upload is open for 30s
}

// A permit knows the state in which its call began, so that a result that
// comes too late counts for nothing.
func ExampleBreaker_Acquire() {
	upload := circuit.New("s3_upload", circuit.Config{FailureThreshold: 2, Observe: func(context.Context, circuit.Transition) {}})
	before, _ := upload.Acquire()
	for range 2 {
		permit, err := upload.Acquire()
		if err != nil {
			fmt.Println(err)
			return
		}
		permit.Failure()
	}
	before.Success() // of a call from before it opened
	fmt.Println(upload.State())
	// Output: open
}

// Isolate keeps a service from being called while it is being repaired.
func ExampleBreaker_Isolate() {
	upload := circuit.New("s3_upload", circuit.Config{Observe: circuit.LogTo(plain())})
	upload.Isolate()
	_, err := upload.Acquire()
	fmt.Println(err)
	upload.Reset()
	// Output:
	// level=WARN msg="Circuit breaker 's3_upload' transitioned from closed to isolated (manual override)"
	// circuit breaker "s3_upload" is isolated until a reset
	// level=INFO msg="Circuit breaker 's3_upload' transitioned from isolated to closed (manual override)"
	// level=INFO msg="Circuit breaker 's3_upload' has refused 1 call while isolated"
}

// A registry is for code that meets its keys as it goes.
func ExampleRegistry() {
	var hosts circuit.Registry
	first, _ := hosts.Get("https://api.example.com", circuit.Config{})
	again, _ := hosts.Get("https://api.example.com", circuit.Config{FailureThreshold: 5})
	fmt.Println(first == again)

	_, err := hosts.Get("https://api.example.com", circuit.Config{FailureThreshold: 3})
	fmt.Println(err)
	// Output:
	// true
	// circuit breaker "https://api.example.com": invalid value 3 for failure_threshold: must be 5, as at its first use
}

// A Config reads the names of the configuration reference.
func ExampleConfig_Set() {
	var c circuit.Config
	fmt.Println(c.Set("failure_threshold", "3"), c.Set("recovery_timeout_seconds", "1.5"))
	fmt.Println(c.FailureThreshold, c.RecoveryTimeout)
	fmt.Println(c.Set("success_threshold", "0"))
	// Output:
	// <nil> <nil>
	// 3 1.5s
	// invalid value "0" for success_threshold: must be a whole number from 1 to 31
}

// A window judges calls by ratio: here 2 of at least 4 that fail.
func ExampleConfig_window() {
	b := circuit.New("search", circuit.Config{
		Window: 10 * time.Second, FailureRatio: 0.5, MinCalls: 4, FailureThreshold: circuit.Off,
		Observe: circuit.LogTo(plain()),
	})
	b.RecordSuccess()
	b.RecordFailure()
	b.RecordSuccess()
	b.RecordFailure()
	// Output:
	// level=WARN msg="Circuit breaker 'search' transitioned from closed to open (2 of 4 calls failed)"
}

// A budget lets retries be a fifth of the calls that work.
func ExampleConfig_budget() {
	b := circuit.New("search", circuit.Config{Budget: 10})
	fmt.Println("new:", b.Metrics().Balance)
	for range 5 {
		b.RecordSuccess()
	}
	fmt.Println("after 5 successes:", b.Metrics().Balance)
	// Output:
	// new: 1
	// after 5 successes: 2
}
