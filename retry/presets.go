package retry

import (
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// A preset is a function, so that each use has a Policy of its own, which
// nobody else can alter. Its Name is empty: that is the operation's.

// Default returns the policy that a zero one is: 5 attempts, 1 s to 30 s with
// 1 s of jitter. Where many calls share a service, give it, as the presets S3Upload
// to APICall, the breaker of [circuit.Service]: [circuit.Config] says what the zero
// Config costs there.
func Default() Policy {
	return Policy{
		MaxAttempts: 5, BaseDelay: time.Second, MaxDelay: 30 * time.Second,
		ExponentialBase: 2, Jitter: time.Second,
	}
}

// S3Upload is for putting objects: 5 attempts, 1 s to 30 s with 1 s of jitter.
func S3Upload() Policy { return Default() }

// S3Download is for getting objects: 5 attempts, 0.5 s to 30 s with 0.5 s of
// jitter.
func S3Download() Policy {
	p := Default()
	p.BaseDelay, p.Jitter = 500*time.Millisecond, 500*time.Millisecond
	return p
}

// S3Heavy is for operations that are costly to repeat: 3 attempts, 2 s to 60 s
// with 2 s of jitter.
func S3Heavy() Policy {
	p := Default()
	p.MaxAttempts = 3
	p.BaseDelay, p.MaxDelay, p.Jitter = 2*time.Second, time.Minute, 2*time.Second
	return p
}

// APICall is for HTTP APIs: 3 attempts, 0.5 s to 10 s with 0.5 s of jitter.
func APICall() Policy {
	p := Default()
	p.MaxAttempts = 3
	p.BaseDelay, p.MaxDelay, p.Jitter = 500*time.Millisecond, 10*time.Second, 500*time.Millisecond
	return p
}

// Service is for calls between services, where somebody waits: 3 attempts
// within 30 s, from 50 ms (1 s when throttled) to 20 s, full jitter. Give it a
// Breaker with [circuit.Service]: a gate, and a retry budget, since at thousands
// of calls a second retries have to be paid for by successes.
func Service() Policy {
	return Policy{
		MaxAttempts: 3, BaseDelay: 50 * time.Millisecond, ThrottleDelay: time.Second,
		MaxDelay: 20 * time.Second, ExponentialBase: 2, JitterMode: FullJitter, MaxElapsed: 30 * time.Second,
		MaxRetryAfter: time.Minute,
	}
}

// Pipeline is for steps that nobody waits for: as many attempts as fit in 15
// minutes, 1 s to 60 s, equal jitter. A server may ask for any wait that fits. Give it
// a Breaker with [circuit.Pipeline].
func Pipeline() Policy {
	return Policy{
		MaxAttempts: Unlimited, BaseDelay: time.Second, MaxDelay: time.Minute,
		ExponentialBase: 2, JitterMode: EqualJitter, MaxElapsed: 15 * time.Minute,
		MaxRetryAfter: 15 * time.Minute,
	}
}

// A preset is one of the table that texts refer to.
type preset struct {
	name string
	make func() Policy
}

func presets() []preset {
	return []preset{
		{"default", Default},
		{"s3_upload", S3Upload},
		{"s3_download", S3Download},
		{"s3_heavy", S3Heavy},
		{"api_call", APICall},
		{"service", Service},
		{"pipeline", Pipeline},
	}
}

// PresetNames returns the names that [Preset] knows.
func PresetNames() []string {
	names := make([]string, 0, len(presets()))
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// Preset returns the preset of that name, as s3_upload; capitals and hyphens
// are understood as well. Any other name is a [*ConfigError].
func Preset(name string) (Policy, error) {
	plain := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	for _, p := range presets() {
		if p.name == plain {
			return p.make(), nil
		}
	}
	return Policy{}, setting.Unknown("preset", name, PresetNames())
}
