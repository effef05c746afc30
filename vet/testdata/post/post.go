package post

import (
	"bytes"
	"context"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

func pay(ctx context.Context, p *retry.Policy, client *http.Client, order []byte) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://pay.example/", bytes.NewReader(order)) // want `POST is repeated without an Idempotency-Key`
		if err != nil {
			return err
		}
		_, err = client.Do(req)
		return err
	})
}

func patch(ctx context.Context, p *retry.Policy, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, "PATCH", "https://pay.example/", nil)
	if err != nil {
		return err
	}
	return retry.Do(ctx, p, func(ctx context.Context) error {
		_, err := client.Do(req.WithContext(ctx)) // want `PATCH is repeated without an Idempotency-Key`
		if err != nil {
			_, err = client.Do(req) // want `PATCH is repeated without an Idempotency-Key`
		}
		return err
	})
}

func form(ctx context.Context, p *retry.Policy, client *http.Client) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		_, err := client.PostForm("https://pay.example/", nil) // want `POST is repeated` `Client.PostForm takes no context`
		return err
	})
}

func keyed(ctx context.Context, p *retry.Policy, client *http.Client, key string) error {
	outer, err := http.NewRequestWithContext(ctx, "POST", "https://pay.example/", nil)
	if err != nil {
		return err
	}
	outer.Header.Set("X-Idempotency-Key", key)
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://pay.example/", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Idempotency-Key", key)
		if _, err = client.Do(req); err == nil {
			_, err = client.Do(outer)
		}
		return err
	})
}

func outerKey(ctx context.Context, p *retry.Policy, client *http.Client, key string) error {
	req, err := http.NewRequestWithContext(ctx, "POST", "https://pay.example/", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Idempotency-Key", key)
	return retry.Do(ctx, p, func(context.Context) error { _, err := client.Do(req); return err })
}

func marked(ctx context.Context, p *retry.Policy, client *http.Client) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(httpretry.Idempotent(ctx), "POST", "https://pay.example/", nil)
		if err == nil {
			_, err = client.Do(req)
		}
		return err
	})
}

func get(ctx context.Context, p *retry.Policy, client *http.Client) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://pay.example/", nil)
		if err == nil {
			_, err = client.Do(req)
		}
		return err
	})
}

// Not an attempt.
func once(ctx context.Context, client *http.Client) error {
	_, err := client.PostForm("https://pay.example/", nil)
	return err
}

type signer interface{ sign(*http.Request) }

// What gets the request may set the key, unless its body is known and does not.
func helped(ctx context.Context, p *retry.Policy, s signer, set func(http.Header)) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, "POST", "https://pay.example/", nil)
		if err != nil {
			return err
		}
		s.sign(req)
		return send(req)
	})
}

func headed(ctx context.Context, p *retry.Policy, header http.Header, key string) error {
	_ = retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, "POST", "https://pay.example/", nil)
		if err != nil {
			return err
		}
		req.Header = header
		return send(req)
	})
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, "POST", "https://pay.example/", nil)
		if err != nil {
			return err
		}
		req.Header["Idempotency-Key"] = []string{key}
		return send(req)
	})
}

func typed(ctx context.Context, p *retry.Policy) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, "POST", "https://pay.example/", nil) // want `POST is repeated without an Idempotency-Key`
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		return send(req)
	})
}

// A copy that another function gets says nothing of other requests.
func copied(ctx context.Context, s signer, req *http.Request) { s.sign(req.Clone(ctx)) }

func send(req *http.Request) error {
	_, err := http.DefaultClient.Do(req)
	return err
}
