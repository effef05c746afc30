package retry

import (
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Default returns the zero Policy with its defaults written out: 5 attempts, delays
// from 1 s to 30 s, 1 s of jitter.
//
// Each preset is a function that returns a new Policy, whose Name is empty and whose
// Breaker is nil. If many calls share a service, give the presets Default, S3Upload,
// S3Download, S3Heavy and APICall a Breaker with [circuit.Service]: [circuit.Config]
// says what a Breaker with the zero Config costs such a service.
func Default() Policy {
	return Policy{
		MaxAttempts: 5, BaseDelay: time.Second, MaxDelay: 30 * time.Second,
		ExponentialBase: 2, Jitter: time.Second,
	}
}

// S3Upload returns the policy for uploads of objects: 5 attempts, delays from 1 s to
// 30 s, 1 s of jitter.
func S3Upload() Policy { return Default() }

// S3Download returns the policy for downloads of objects: 5 attempts, delays from 0.5 s
// to 30 s, 0.5 s of jitter.
func S3Download() Policy {
	p := Default()
	p.BaseDelay, p.Jitter = 500*time.Millisecond, 500*time.Millisecond
	return p
}

// S3Heavy returns the policy for operations that are costly to repeat: 3 attempts,
// delays from 2 s to 60 s, 2 s of jitter.
func S3Heavy() Policy {
	p := Default()
	p.MaxAttempts = 3
	p.BaseDelay, p.MaxDelay, p.Jitter = 2*time.Second, time.Minute, 2*time.Second
	return p
}

// APICall returns the policy for HTTP APIs: 3 attempts, delays from 0.5 s to 10 s, 0.5 s
// of jitter.
func APICall() Policy {
	p := Default()
	p.MaxAttempts = 3
	p.BaseDelay, p.MaxDelay, p.Jitter = 500*time.Millisecond, 10*time.Second, 500*time.Millisecond
	return p
}

// Service returns the policy for calls between services, on which a user waits: 3
// attempts within 30 s, delays from 50 ms (1 s after throttled errors) to 20 s, full
// jitter. Give it a Breaker with [circuit.Service], which has a gate and a retry budget:
// at thousands of calls a second the budget limits retries to a share of the successes.
func Service() Policy {
	return Policy{
		MaxAttempts: 3, BaseDelay: 50 * time.Millisecond, ThrottleDelay: time.Second,
		MaxDelay: 20 * time.Second, ExponentialBase: 2, JitterMode: FullJitter, MaxElapsed: 30 * time.Second,
		MaxRetryAfter: time.Minute,
	}
}

// Pipeline returns the policy for steps of a pipeline, on which no user waits: as many
// attempts as fit in 15 minutes, delays from 1 s to 60 s, equal jitter. A server may ask
// for any wait that fits. Give it a Breaker with [circuit.Pipeline].
func Pipeline() Policy {
	return Policy{
		MaxAttempts: Unlimited, BaseDelay: time.Second, MaxDelay: time.Minute,
		ExponentialBase: 2, JitterMode: EqualJitter, MaxElapsed: 15 * time.Minute,
		MaxRetryAfter: 15 * time.Minute,
	}
}

// A preset is a row of the table of names.
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

// PresetNames returns the names that [Preset] accepts.
func PresetNames() []string {
	names := make([]string, 0, len(presets()))
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// Preset returns the preset with the given name, such as s3_upload, in upper or lower
// case, with hyphens or underscores. If the name is unknown, Preset returns a
// [*ConfigError].
func Preset(name string) (Policy, error) {
	plain := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	for _, p := range presets() {
		if p.name == plain {
			return p.make(), nil
		}
	}
	return Policy{}, setting.Unknown("preset", name, PresetNames())
}
