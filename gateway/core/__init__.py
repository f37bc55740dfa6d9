"""The pure core: values in, values out; time is an argument, nothing here waits."""
