"""The whole product on a real cluster. A test's name is the promise that it checks."""
