package nested

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.org/service/api"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

type service struct {
	policy retry.Policy
	client *http.Client
	plain  *http.Client
	store  *s3.Client
}

func newService() *service {
	p := retry.Service()
	return &service{client: httpretry.Client(&p), plain: &http.Client{}}
}

var global = &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{})}

func (s *service) get(ctx context.Context, req *http.Request) error {
	return retry.Do(ctx, &s.policy, func(ctx context.Context) error {
		_, err := s.client.Do(req) // want `a client of httpretry within a retry: attempts multiply`
		if err != nil {
			_, err = global.Do(req) // want `a client of httpretry within a retry`
		}
		if err == nil {
			err = s.store.GetObject(ctx) // want `a client of the AWS SDK, which retries, within a retry`
		}
		if err == nil {
			_, err = s.plain.Do(req)
		}
		return err
	})
}

func (s *service) twice(ctx context.Context) error {
	return retry.Do(ctx, &s.policy, func(ctx context.Context) error {
		return retry.Do(ctx, &s.policy, s.once) // want `a retry within a retry`
	})
}

func (s *service) once(ctx context.Context) error { return s.store.GetObject(ctx) } // want `a client of the AWS SDK`

func (s *service) alone(ctx context.Context, req *http.Request) error {
	_, err := s.client.Do(req)
	return err
}

func local(ctx context.Context, p *retry.Policy, req *http.Request) error {
	client := httpretry.Client(p)
	send := func(ctx context.Context) (*http.Response, error) {
		return client.Do(req) // want `a client of httpretry within a retry`
	}
	_, err := retry.Value(ctx, p, send)
	return err
}

func final(ctx context.Context, p *retry.Policy, store *s3.Client) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		if err := store.GetObject(ctx); err != nil {
			return retry.Permanent(err)
		}
		return nil
	})
}

func elsewhere(ctx context.Context, p *retry.Policy, a *api.API, req *http.Request, f func(context.Context) (int, error)) error {
	mine, plain := api.New(), api.Plain()
	return retry.Do(ctx, p, func(ctx context.Context) error {
		mine.Do(req)           // want `a client of httpretry within a retry`
		api.Shared.Do(req)     // want `a client of httpretry within a retry`
		a.HTTP.Do(req)         // want `a client of httpretry within a retry`
		api.New().Do(req)      // want `a client of httpretry within a retry`
		a.Get(req)             // want `a call of Get, which retries, within a retry`
		api.Generic(ctx, p, f) // want `a call of Generic, which retries, within a retry`
		helper(a, req)         // want `a call of helper, which retries, within a retry`
		api.Later(ctx, p, nil)
		plain.Do(req)
		return a.Once(req)
	})
}

func helper(a *api.API, req *http.Request) error { return a.Get(req) }
