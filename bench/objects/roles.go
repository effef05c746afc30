package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// The roles of the child processes.
const (
	roleServer = "as-server"
	roleClient = "as-client"
)

const bucket, key = "bench", "file"

// The clients, by name.
const (
	ours    = "perdure"
	manager = "transfer manager"
)

func play(ctx context.Context, role string, args []string) error {
	if role == roleServer {
		return serve(args[0], args[1], s3test.Options{Upstream: args[2], AccessKey: args[3], SecretKey: args[4]})
	}
	name, way, path := args[0], args[1], args[2]
	part, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	parallel, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	delay, err := time.ParseDuration(args[5])
	if err != nil {
		return err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	transfer := byUs(delay)
	if name == manager {
		transfer = byManager
	}
	begin := time.Now()
	if err := transfer(ctx, cfg, way, path, part, parallel); err != nil {
		return err
	}
	_, err = fmt.Print(time.Since(begin))
	return err
}

func byUs(delay time.Duration) func(ctx context.Context, cfg aws.Config, way, path string, part int64, parallel int) error {
	policy := retry.S3Upload()
	policy.BaseDelay, policy.Jitter = delay, delay
	return func(ctx context.Context, cfg aws.Config, way, path string, part int64, parallel int) error {
		store, err := objects.New(cfg, objects.Options{Policy: &policy, PartSize: part, Parallel: parallel}, pathStyle)
		if err != nil {
			return err
		}
		if way == "up" {
			_, err = store.PutFile(ctx, bucket, key, path, objects.PutOptions{})
		} else {
			_, err = store.GetFile(ctx, bucket, key, path, objects.GetOptions{})
		}
		return err
	}
}

// byManager has the defaults, but for size and number of the parts, and for downloads by ranges: s3test does not support
// downloads by part. Unlike ours it does not compare ranges with a checksum.
func byManager(ctx context.Context, cfg aws.Config, way, path string, part int64, parallel int) error {
	m := transfermanager.New(s3.NewFromConfig(cfg, pathStyle), func(o *transfermanager.Options) {
		o.PartSizeBytes, o.Concurrency, o.GetObjectType = part, parallel, types.GetObjectRanges
	})
	if way == "up" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = m.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: f})
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err = m.DownloadObject(ctx, &transfermanager.DownloadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), WriterAt: f}); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close()) // ours is on the disk as well
}

func pathStyle(o *s3.Options) { o.UsePathStyle = true }

// serve runs s3test until standard input ends; then it writes the number of requests, and of those that it failed.
func serve(failing, seed string, o s3test.Options) error {
	rate, err := strconv.ParseFloat(failing, 64)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	o.Faults = s3test.Faults{
		Seed: n, SlowDown: rate * 0.3, InternalError: rate * 0.2, Reset: rate * 0.2,
		CutRequest: rate * 0.3, CutBody: rate * 0.3, // a request is of one or the other
	}
	if o.Upstream == "" {
		o.Buckets = []string{bucket}
	}
	server, err := s3test.New(o)
	if err != nil {
		return err
	}
	defer server.Close()
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(endpoint{URL: server.URL, Access: server.AccessKey, Secret: server.SecretKey}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	requests, struck := server.Requests(), 0
	for _, r := range requests {
		if r.Fault.Kind != s3test.None {
			struck++
		}
	}
	return out.Encode([2]int{len(requests), struck})
}
