"""The trial of the deployed system: template.yaml in an AWS emulator on this machine."""
