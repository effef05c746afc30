package changed

import (
	"context"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func work(context.Context) error { return nil }

func after(ctx context.Context) error {
	p := retry.Service()
	p.MaxAttempts = 4
	if err := retry.Do(ctx, &p, work); err != nil {
		return err
	}
	p.MaxAttempts = 7 // want `the policy is changed after its first use`
	return retry.Do(ctx, &p, work)
}

func loop(ctx context.Context, names []string) (err error) {
	p := retry.Service()
	for _, name := range names {
		p.Name = name // want `the policy is changed after its first use`
		err = retry.Do(ctx, &p, work)
	}
	for _, name := range names {
		q := retry.Service()
		q.Name = name
		err = retry.Do(ctx, &q, work)
	}
	return err
}

func client() {
	p := &retry.Policy{}
	_ = httpretry.Client(p)
	p.Name = "late" // want `the policy is changed after its first use`
	q := *p
	q.Name = "a copy"
}
