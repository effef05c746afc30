package main

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/awsenv"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy/s3"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// checkS3 returns the error of flags that do not fit --s3.
func (f *proxyFlags) checkS3() error {
	switch {
	case !f.s3 && f.key != "":
		return setting.Bad("--client-key-file", f.key, "given with --s3 only")
	case f.s3 && len(f.to) == 1 && strings.Contains(f.to[0], ",policy="):
		return setting.Bad("--to", f.to[0], "a URL alone: with --s3, --policy chooses the policy")
	case f.s3 && len(f.to) == 1:
		all, err := proxy.ParseUpstreams("--to", f.to)
		if err == nil && all[0].Prefix+all[0].Listen != "" {
			err = setting.Bad("--to", f.to[0], "a URL alone: clients of --s3 sign the path, and --listen has their address")
		}
		return err
	case f.s3 && len(f.to) > 1:
		return setting.Bad("--to", strings.Join(f.to, ","), "one URL")
	}
	return nil
}

// serveS3 makes the proxy of c speak S3, and prints the key for its clients if no file has it.
func (a *app) serveS3(ctx context.Context, f *proxyFlags, c *proxy.Config, address net.Addr) error {
	to := ""
	if len(f.to) > 0 {
		to = f.to[0]
	}
	cfg, err := awsenv.Config(ctx, to, "", false)
	if err != nil {
		return err
	}
	if c.Upstreams, err = upstreamS3(ctx, cfg, to); err != nil {
		return err
	}
	var key s3.Key
	switch {
	case f.key != "":
		if key, err = s3.LoadKey("--client-key-file", f.key); err != nil {
			return err
		}
	case address.Network() != "unix":
		key = s3.NewKey()
		fmt.Fprintf(a.stdout, "export AWS_ENDPOINT_URL=http://%s\nexport AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n", address, key.ID, key.Secret)
	}
	s3.Apply(c, s3.Config{Region: cfg.Region, Credentials: cfg.Credentials, Key: key, Policy: c.Policy})
	return nil
}

// upstreamS3 returns the store of cfg as the upstream; to, if not empty, is its URL.
func upstreamS3(ctx context.Context, cfg aws.Config, to string) ([]proxy.Upstream, error) {
	field := "--to"
	if to == "" {
		field = awsenv.Source
		o := awss3.NewFromConfig(cfg).Options()
		params := awss3.EndpointParameters{
			Region: &cfg.Region, Endpoint: o.BaseEndpoint, ForcePathStyle: aws.Bool(true),
			UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
			UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		}
		found, err := awss3.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, params)
		if err != nil {
			return nil, setting.Bad("the region", cfg.Region, "one that S3 knows")
		}
		to = found.URI.String()
	}
	return proxy.ParseUpstreams(field, []string{to})
}
