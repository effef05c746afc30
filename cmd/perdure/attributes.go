package main

import (
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
)

// attributeFlags are the flags of copy and sync that set attributes of the objects that are written.
type attributeFlags struct{ endpoint.Settings }

func (f *attributeFlags) add(flags *pflag.FlagSet) {
	usage := map[string]string{
		"content-type":        "`type` of the objects that are written, such as text/csv, in place of that of SRC",
		"content-encoding":    "`encoding` of the objects, such as gzip; the bytes are stored as they are",
		"content-language":    "`language` of the objects, such as de",
		"content-disposition": "`disposition` of the objects, such as attachment",
		"cache-control":       "`directives` for caches of the objects, such as max-age=3600",
		"metadata":            "metadata of the objects as `name=value`, repeatable, in place of all metadata of SRC",
		"storage-class":       "storage `class` of the objects, such as STANDARD_IA",
		"tag":                 "tag of the objects as `name=value`, repeatable, in place of all tags of SRC",
		"acl":                 "canned `ACL` of the objects, such as bucket-owner-full-control",
	}
	for _, name := range endpoint.SettingFlags() {
		flag := flags.VarPF(each(func(value string) error { return f.Set(name, value) }), name, "", usage[name])
		flag.Annotations = map[string][]string{policy.Group: {"Attributes of the objects that are written"}}
	}
}
