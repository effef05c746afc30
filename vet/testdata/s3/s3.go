// Package s3 has the path and the type that the pass knows, without what the SDK needs.
package s3

import "context"

type Client struct{}

func (*Client) GetObject(context.Context) error { return nil }
