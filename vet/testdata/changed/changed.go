package changed

import (
	"context"
	"net/http"

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

func branches(ctx context.Context, fast bool, mode int) error {
	p := retry.Service()
	if fast {
		return retry.Do(ctx, &p, work)
	}
	p.MaxAttempts = 2
	if mode == 1 {
		_ = retry.Do(ctx, &p, work)
	} else {
		p.MaxAttempts = 4
	}
	switch mode {
	case 2:
		_ = retry.Do(ctx, &p, work)
	default:
		p.MaxAttempts = 5 // want `the policy is changed after its first use`
	}
	q := retry.Service()
	switch mode {
	case 3:
		_ = retry.Do(ctx, &q, work)
	case 4:
		q.MaxAttempts = 4
	}
	q.MaxAttempts = 5 // want `the policy is changed after its first use`
	return nil
}

func background(ctx context.Context) {
	p := retry.Service()
	go func() {
		_ = retry.Do(ctx, &p, work)
		return
	}()
	p.Name = "late" // want `the policy is changed after its first use`
}

func another(ctx context.Context) error {
	p := &retry.Policy{}
	if err := retry.Do(ctx, p, work); err != nil {
		return err
	}
	p = &retry.Policy{MaxAttempts: 2}
	p.Name = "another"
	return retry.Do(ctx, p, work)
}

func byText(ctx context.Context) (*http.Client, error) {
	p := retry.Service()
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := p.Set("name", "early"); err != nil {
		return nil, err
	}
	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{Policy: &p})}
	return client, p.Set("name", "late") // want `the policy is changed after its first use`
}

func whole(ctx context.Context) error {
	p := retry.Service()
	if err := retry.Do(ctx, &p, work); err != nil {
		return err
	}
	p = retry.APICall() // want `the policy is changed after its first use`
	return retry.Do(ctx, &p, work)
}
