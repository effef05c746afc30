package rewind

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"

	"github.com/seed-0f2c7998/perdure/retry"
)

func upload(ctx context.Context, p *retry.Policy, client *http.Client, file *os.File) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, "PUT", "https://store.example/k", file) // want `file is read by each attempt and not rewound`
		if err != nil {
			return err
		}
		_, err = client.Do(req)
		return err
	})
}

func rewound(ctx context.Context, p *retry.Policy, client *http.Client, file *os.File, text []byte) error {
	return retry.Do(ctx, p, func(ctx context.Context) error {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := http.NewRequestWithContext(ctx, "PUT", "https://store.example/k", file); err != nil {
			return err
		}
		body := bytes.NewReader(text)
		_, err := http.NewRequestWithContext(ctx, "PUT", "https://store.example/k", body)
		return err
	})
}

func copied(ctx context.Context, p *retry.Policy, to io.Writer, text []byte) error {
	from := bytes.NewReader(text)
	return retry.Do(ctx, p, func(ctx context.Context) error {
		_, err := io.Copy(to, from) // want `from is read by each attempt`
		return err
	})
}

func request(ctx context.Context, p *retry.Policy, client *http.Client, text []byte) error {
	req, err := http.NewRequestWithContext(ctx, "PUT", "https://store.example/k", bytes.NewReader(text))
	if err != nil {
		return err
	}
	empty, err := http.NewRequestWithContext(ctx, "GET", "https://store.example/k", nil)
	if err != nil {
		return err
	}
	return retry.Do(ctx, p, func(context.Context) error {
		if _, err := client.Do(empty); err != nil {
			return err
		}
		_, err := client.Do(req) // want `the body of req is read by each attempt`
		return err
	})
}

func refilled(ctx context.Context, p *retry.Policy, client *http.Client, text []byte) error {
	req, err := http.NewRequestWithContext(ctx, "PUT", "https://store.example/k", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return retry.Do(ctx, p, func(context.Context) error {
		req.Body, _ = req.GetBody()
		_, err := client.Do(req)
		return err
	})
}

func withContext(ctx context.Context, p *retry.Policy, client *http.Client, text []byte) error {
	req, err := http.NewRequest("PUT", "https://store.example/k", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return retry.Do(ctx, p, func(ctx context.Context) error {
		_, err := client.Do(req.WithContext(ctx)) // want `the body of req is read by each attempt`
		return err
	})
}
