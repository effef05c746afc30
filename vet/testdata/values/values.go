package values

import (
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

const attempts = -7

var unknown = time.Second

var (
	_ = retry.Policy{MaxAttempts: attempts}                                // want `invalid value -7 for max_attempts`
	_ = &retry.Policy{Name: "x", BaseDelay: unknown, ExponentialBase: 0.5} // want `invalid value 0.5 for exponential_base`
	_ = retry.Policy{RetryOn: []string{"timeout", "Timeut"}}
	_ = retry.Policy{RetryOn: []string{"timeot"}} // want `invalid value "timeot" for retry_on`
	_ = retry.Policy{MaxAttempts: retry.Unlimited, Jitter: retry.NoJitter, BaseDelay: unknown}
	_ = circuit.Config{FailureThreshold: -3}                               // want `invalid value -3 for failure_threshold`
	_ = circuit.Config{RecoveryTimeout: time.Minute, OpenMax: time.Second} // want `for open_max`
	_ = circuit.Config{RecoveryTimeout: unknown, OpenMax: time.Second, FailureThreshold: -3}
)

func set() error {
	p := retry.S3Upload()
	p.Jitter = -3 * time.Second // want `invalid value -3 for jitter`
	p.Jitter = unknown
	if err := p.Set("max_attempts", "0"); err != nil { // want `invalid value "0" for max_attempts`
		return err
	}
	var c circuit.Config
	return c.Set("recovery_timeout_seconds", "soon") // want `invalid value "soon" for recovery_timeout_seconds`
}

func completed() (circuit.Config, error) {
	limited := circuit.Config{Burst: 3}
	limited.Rate = 5
	slow := circuit.Config{OpenMax: time.Second}
	slow.OpenGrowth, slow.RecoveryTimeout = 2, 10*time.Millisecond
	c := circuit.Service()
	c.Budget = 5000    // want `invalid value 5000 for budget`
	c.FailureRatio = 2 // want `invalid value 2 for failure_ratio`
	c.FailureRatio = .5
	c.OpenMax = time.Minute
	c.OpenGrowth = 1
	c.Window = 0
	_, err := retry.Preset("servce") // want `servce`
	if _, err := retry.Preset("s3-upload"); err != nil {
		return slow, err
	}
	return limited, err
}
