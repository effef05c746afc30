package main

import "github.com/spf13/cobra"

// syncText is the help of sync.
const syncText = `Make DST have the files of SRC, through failures.

SRC is a directory and DST is s3://BUCKET/PREFIX, or the reverse, or both are s3://BUCKET/PREFIX. sync copies
as perdure copy -r does: what DST has with the same size and checksum is skipped, each file is verified, and
a second run does only what is left, and reads only files that have changed. From store to store, the store
itself copies, unless --endpoint-url-dst or --profile-dst names another one.

With --delete, files that DST has and SRC has not are deleted at the end. Nothing is deleted if a file could
not be copied, or if either side could not be listed to its end; nor if more than 1000 files, or more than
half of those in DST, would be deleted: --max-delete sets another limit. Files that appear while sync runs
stay. Directories that become empty are removed. --dry-run changes nothing and says what would be done.

The exit code is 0 if DST has all files, 1 for a permanent failure, 69 if it gave up, 75 to retry later (the
message says when), 64 for invalid usage, 130 or 143 if interrupted.`

func (a *app) syncCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "sync [flags] SRC DST",
		Short: "Copy what is missing or differs, and with --delete remove the rest",
		Long:  syncText,
		Example: `  perdure sync ./trips s3://bikes/trips
  perdure sync ./trips s3://bikes/trips --delete --dry-run
  perdure sync s3://bikes/trips ./trips --delete --max-delete 50
  perdure sync s3://bikes/trips s3://backup/trips --endpoint-url-dst http://localhost:9000 --profile-dst backup`,
	}
	a.copies(c, addSyncFlags(c.Flags()))
	return c
}
