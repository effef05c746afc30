package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A pipeline is what a user of the library writes: an HTTP client and an S3 client, each
// with a policy. It knows nothing about the faults.
type pipeline struct {
	dir       string // where the files go
	api       *http.Client
	base      string // the API's URL
	uploads   *objects.Store
	downloads *objects.Store
}

func newPipeline(s *servers, l *ledger, t times, dir string) (*pipeline, error) {
	p := &pipeline{dir: dir, base: s.api.URL}

	fetch := quick(retry.APICall(), "fetch", l, t)
	fetch.Breaker = newBreaker("station_api", l, t)
	p.api = &http.Client{CheckRedirect: httpretry.CheckRedirect, Transport: httpretry.NewTransport(nil, httpretry.Options{Policy: &fetch, OnResume: l.resumed})}

	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(s.store.URL),
		Credentials: credentials.NewStaticCredentialsProvider(s.store.AccessKey, s.store.SecretKey, ""),
	}
	upload := quick(retry.S3Upload(), "upload_to_s3", l, t)
	download := quick(retry.S3Download(), "download_from_s3", l, t)
	upload.Breaker = newBreaker("s3_store", l, t)
	download.Breaker = upload.Breaker // one store, one breaker

	var err error
	if p.uploads, err = objects.New(cfg, objects.Options{Policy: &upload}); err != nil {
		return nil, err
	}
	p.downloads, err = objects.New(cfg, objects.Options{Policy: &download})
	return p, err
}

// quick returns a preset with short waits and a timeout for each attempt.
func quick(preset retry.Policy, name string, l *ledger, t times) retry.Policy {
	preset.Name, preset.Observe = name, l.observe
	preset.MaxAttempts = 5
	preset.BaseDelay, preset.Jitter = t.base, t.jitter
	preset.AttemptTimeout = t.attemptTimeout
	return preset
}

func newBreaker(name string, l *ledger, t times) *circuit.Breaker {
	return circuit.New(name, circuit.Config{
		FailureThreshold: threshold, RecoveryTimeout: t.recovery, Observe: l.moved,
	})
}

// fetch writes one page of the API to a file, and returns the page.
func (p *pipeline) fetch(ctx context.Context, path, file string) (page, error) {
	var content page
	body, err := p.get(ctx, p.base+path)
	if err != nil {
		return content, err
	}
	if err := json.Unmarshal(body, &content); err != nil {
		return content, err
	}
	return content, p.write(file, body)
}

func (p *pipeline) write(file string, content []byte) error {
	return os.WriteFile(filepath.Join(p.dir, file), content, 0o600)
}

func (p *pipeline) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.api.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if err := httpretry.GaveUp(res); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return io.ReadAll(res.Body)
}

// store stores a file as the object of that key.
func (p *pipeline) store(ctx context.Context, file, key string) error {
	_, err := p.uploads.PutFile(ctx, bucket, key, filepath.Join(p.dir, file), objects.PutOptions{})
	return err
}

// load downloads the object of that key.
func (p *pipeline) load(ctx context.Context, key string) ([]byte, error) {
	var content bytes.Buffer
	_, err := p.downloads.Get(ctx, bucket, key, &content, objects.GetOptions{})
	return content.Bytes(), err
}
